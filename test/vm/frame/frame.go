// SPDX-License-Identifier: Apache-2.0

// Package frame is the protocol between the guest's init and the host: a Manifest from the host, and a stream
// of Frames over a serial line from the guest.
//
// A serial line is neither a file nor a socket: the kernel may print between two of our bytes, and a guest
// that dies stops in the middle of a word. Therefore each frame is one line with a mark, a checksum and a
// sequence number, and the reader reports frames that are damaged or missing.
package frame

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"
)

// Kind is the kind of a frame.
type Kind string

// The frames of a run, in their order: Hello, then for each program Start, any number of Output and File, and
// Exit, and at last Bye. Kernel and Problem may come at any time.
const (
	Hello   Kind = "hello"   // init runs: Text is the kernel release
	Start   Kind = "start"   // Program begins
	Output  Kind = "output"  // Data is a piece of Program's standard output and error
	File    Kind = "file"    // Data is a piece of the file Path that Program left in its out directory
	Exit    Kind = "exit"    // Program has ended, with Status
	Kernel  Kind = "kernel"  // Text is one record of the kernel's log
	Problem Kind = "problem" // Text is an error of init itself
	Bye     Kind = "bye"     // all programs have run; the guest powers off next
)

// MaxData is the largest number of bytes of Data in one frame. It is small, so that little is lost with a
// damaged frame.
const MaxData = 8 << 10

// Status is the exit of a program.
type Status struct {
	Code     int           `json:"code"`             // exit status, or -1 when a signal ended it
	Signal   string        `json:"signal,omitempty"` // the signal's name
	TimedOut bool          `json:"timed_out,omitempty"`
	Error    string        `json:"error,omitempty"` // why it could not start
	Took     time.Duration `json:"took"`
}

// OK reports whether the program ran to its end and succeeded.
func (s Status) OK() bool {
	return s.Code == 0 && s.Error == "" && !s.TimedOut
}

func (s Status) String() string {
	switch {
	case s.Error != "":
		return s.Error
	case s.TimedOut:
		return "killed at its time limit"
	case s.Signal != "":
		return "ended by signal " + s.Signal
	}
	return fmt.Sprintf("exit status %d", s.Code)
}

// Frame is one message from the guest.
type Frame struct {
	Seq     uint64  `json:"seq"`
	Kind    Kind    `json:"kind"`
	Program string  `json:"program,omitempty"`
	Path    string  `json:"path,omitempty"`
	Text    string  `json:"text,omitempty"`
	Data    []byte  `json:"data,omitempty"`
	Status  *Status `json:"status,omitempty"`
}

// mark begins a frame. It has a control character, so that no normal line of a log contains it by chance.
const mark = "\x01vm1 "

// Writer sends frames. It is safe for use by several goroutines at once.
type Writer struct {
	mu  sync.Mutex
	out io.Writer
	seq uint64
}

// NewWriter makes a Writer that sends to out, which it does not close.
func NewWriter(out io.Writer) *Writer {
	return &Writer{out: out}
}

// Send numbers f and writes it in one call of Write.
func (w *Writer) Send(f Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq++
	f.Seq = w.seq
	body, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode frame %d: %w", f.Seq, err)
	}
	// The leading line feed ends a line of which the kernel has printed only a part.
	line := fmt.Appendf(nil, "\n%s%08x %s\n", mark, crc32.ChecksumIEEE(body), body)
	if _, err := w.out.Write(line); err != nil {
		return fmt.Errorf("write frame %d: %w", f.Seq, err)
	}
	return nil
}

// Stream is an io.Writer that sends its bytes in frames like f, with at most MaxData bytes each.
func (w *Writer) Stream(f Frame) io.Writer {
	return stream{w, f}
}

type stream struct {
	w *Writer
	f Frame
}

func (s stream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		s.f.Data = p[n:min(n+MaxData, len(p))]
		if err := s.w.Send(s.f); err != nil {
			return n, err
		}
		n += len(s.f.Data)
	}
	return n, nil
}
