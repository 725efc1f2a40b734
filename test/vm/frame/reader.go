// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
)

// Reader reads frames from a stream that may have anything else between them.
type Reader struct {
	in      *bufio.Reader
	last    uint64
	damaged int
}

// NewReader returns a Reader that reads from r.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(r, 4*MaxData)}
}

// Next returns the next whole frame, or io.EOF. It skips lines that are no frame, or a damaged one.
func (r *Reader) Next() (Frame, error) {
	for {
		line, err := r.in.ReadBytes('\n')
		if f, ok := r.decode(line); ok {
			return f, nil
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				err = fmt.Errorf("read frames: %w", err)
			}
			return Frame{}, err
		}
	}
}

// Damaged is the number of frames that could not be read or were missing between two others.
func (r *Reader) Damaged() int {
	return r.damaged
}

func (r *Reader) decode(line []byte) (f Frame, ok bool) {
	// The last mark counts: the text before it on the line is a frame that was cut off, or a message of the
	// kernel.
	at := bytes.LastIndex(line, []byte(mark))
	if at < 0 {
		return f, false
	}
	sum, body, _ := bytes.Cut(bytes.TrimRight(line[at+len(mark):], "\r\n"), []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(want) != crc32.ChecksumIEEE(body) || json.Unmarshal(body, &f) != nil {
		return Frame{}, false
	}
	// A frame that was cut off, garbled or missing shows as a gap in the numbers, and is counted only here.
	if f.Seq > r.last+1 {
		r.damaged += int(f.Seq - r.last - 1)
	}
	r.last = f.Seq
	return f, true
}
