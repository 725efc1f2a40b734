// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Mode is what the server of test/lab/cmd/traffic does with a connection.
type Mode uint32

const (
	// ModeEcho returns every Hello.Size bytes as a whole, until the end.
	ModeEcho Mode = iota + 1
	// ModeSink reads to the end and returns a Receipt.
	ModeSink
)

// HelloSize and ReceiptSize are lengths on the wire, in bytes.
const (
	HelloSize   = 20
	ReceiptSize = 24
)

const helloMagic = 0x6f6c6c65

// Hello is the first message of a client.
type Hello struct {
	Mode  Mode
	Seed  uint32
	Size  uint32 // bytes of a request, or of a read
	Check bool   // the server checks the content, which begins at offset 0 after the Hello
}

// Append appends the wire form of h to b.
func (h Hello) Append(b []byte) []byte {
	var check uint32
	if h.Check {
		check = 1
	}
	for _, v := range []uint32{helloMagic, uint32(h.Mode), h.Seed, h.Size, check} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// ParseHello reads the wire form, HelloSize bytes.
func ParseHello(b []byte) (Hello, error) {
	if len(b) != HelloSize || binary.BigEndian.Uint32(b) != helloMagic {
		return Hello{}, fmt.Errorf("parse hello: % x is none", b)
	}
	h := Hello{
		Mode:  Mode(binary.BigEndian.Uint32(b[4:])),
		Seed:  binary.BigEndian.Uint32(b[8:]),
		Size:  binary.BigEndian.Uint32(b[12:]),
		Check: binary.BigEndian.Uint32(b[16:]) == 1,
	}
	const limit = 64 << 20
	if h.Mode != ModeEcho && h.Mode != ModeSink || h.Size == 0 || h.Size > limit {
		return Hello{}, fmt.Errorf("parse hello: mode %d with size %d (modes 1 and 2, sizes up to %d)", h.Mode,
			h.Size, limit)
	}
	return h, nil
}

// Receipt is the answer of a sink at the end of a stream.
type Receipt struct {
	Bytes   uint64
	Elapsed time.Duration // from the first byte of the stream to its end
	Intact  bool          // the content was right, or was not checked
}

// Append appends the wire form of r to b.
func (r Receipt) Append(b []byte) []byte {
	var intact uint64
	if r.Intact {
		intact = 1
	}
	b = binary.BigEndian.AppendUint64(b, r.Bytes)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Elapsed))
	return binary.BigEndian.AppendUint64(b, intact)
}

// ParseReceipt reads the wire form, ReceiptSize bytes.
func ParseReceipt(b []byte) (Receipt, error) {
	if len(b) != ReceiptSize {
		return Receipt{}, fmt.Errorf("parse receipt: %d bytes instead of %d", len(b), ReceiptSize)
	}
	return Receipt{
		Bytes:   binary.BigEndian.Uint64(b),
		Elapsed: time.Duration(binary.BigEndian.Uint64(b[8:])),
		Intact:  binary.BigEndian.Uint64(b[16:]) == 1,
	}, nil
}

// Ready is the line that `traffic serve` prints as soon as it listens.
type Ready struct {
	Listen string `json:"listen"` // address:port, or unix:path
}

// A Report is what `traffic rr`, `crr` and `stream` print: one line of JSON.
type Report struct {
	Kind    string        `json:"kind"` // rr, crr or stream
	Size    int           `json:"size"` // bytes of a request, or of a write
	Elapsed time.Duration `json:"elapsed_ns"`
	Checked bool          `json:"checked"`       // content was compared; without a report if it was wrong
	CPU     time.Duration `json:"client_cpu_ns"` // user and system time of the client

	Latency   *Summary `json:"latency,omitempty"` // rr: of a request; crr: of connect, request, close
	PerSecond float64  `json:"per_second,omitempty"`

	// For stream, as the receiver saw it, so that bytes that are still in a buffer do not count.
	Transfer       *Transfer `json:"transfer,omitempty"`
	BytesPerSecond float64   `json:"bytes_per_second,omitempty"`
}
