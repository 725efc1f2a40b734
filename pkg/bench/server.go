// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenerFD is where a server finds its listener: the first of exec.Cmd's ExtraFiles.
const listenerFD = 3

// startServer runs the other end in a process of its own, as that of a container is: a switch between two address spaces is
// part of what a request costs. It ends with this process.
func startServer(listener, cpu int) error {
	file := os.NewFile(uintptr(listener), "listener")
	defer file.Close()
	cmd := self(roleServer, strconv.Itoa(cpu))
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	return nil
}

// serveConnections serves one connection after the other, until it is killed.
func serveConnections(args []string) error {
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if err := pin(cpu); err != nil {
		return err
	}
	for {
		fd, _, err := unix.Accept4(listenerFD, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if err := ready(fd); err != nil {
			return err
		}
		// The client sees the connection break, and says so.
		_ = conn(fd).serveOne()
		unix.Close(fd)
	}
}

// serveOne does what the client announces, and at the end tells how many bytes came.
func (c conn) serveOne() error {
	what, err := c.announced()
	if err != nil {
		return err
	}
	got, err := serve(c, what)
	if err != nil {
		return err
	}
	return c.writeAll(binary.LittleEndian.AppendUint64(nil, got))
}

// serve answers requests, or reads a stream, until its end.
func serve(c conn, what Case) (got uint64, err error) {
	buf := make([]byte, max(what.Bytes, 256<<10))
	for {
		if what.Kind == Stream {
			n, err := c.readSome(buf)
			if errors.Is(err, io.EOF) {
				return got, nil
			}
			if err != nil {
				return got, err
			}
			got += uint64(n)
			continue
		}
		if err := c.readAll(buf[:what.Bytes]); errors.Is(err, io.EOF) {
			return got, nil
		} else if err != nil {
			return got, err
		}
		got += uint64(what.Bytes)
		if err := c.writeAll(buf[:what.Bytes]); err != nil {
			return got, err
		}
	}
}

// frame is what announce and tally add to the traffic, in bytes.
const frame = 5 + 8

// announce tells the server what comes: 1 byte of kind and 4 of size.
func (c conn) announce(what Case) error {
	b := []byte{0}
	if what.Kind == Stream {
		b[0] = 1
	}
	return c.writeAll(binary.LittleEndian.AppendUint32(b, uint32(what.Bytes)))
}

func (c conn) announced() (what Case, err error) {
	var b [5]byte
	if err := c.readAll(b[:]); err != nil {
		return what, err
	}
	what = Case{Requests, int(binary.LittleEndian.Uint32(b[1:]))}
	if b[0] == 1 {
		what.Kind = Stream
	}
	return what, nil
}

func (c conn) tally() (uint64, error) {
	var b [8]byte
	if err := c.readAll(b[:]); err != nil {
		return 0, fmt.Errorf("ask what arrived: %w", err)
	}
	if _, err := c.readSome(b[:]); !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("the server has more to say: %v", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
