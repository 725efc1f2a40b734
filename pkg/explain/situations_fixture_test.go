// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

func (p *place) disable(on bool) {
	p.Helper()
	if err := p.d.SetDisabled(on); err != nil {
		p.Fatal(err)
	}
}

func (p *place) live(change func(*datapath.Live)) {
	p.Helper()
	l := datapath.Live{MaxBacklogBytes: p.bounds.MaxBacklogBytes,
		MaxBacklogMessages: p.bounds.MaxBacklogMessages}
	change(&l)
	if err := p.d.SetLive(l); err != nil {
		p.Fatal(err)
	}
}

// bytesOverTCPUnread leaves a message over TCP with the reader.
func bytesOverTCPUnread(s, r *end) {
	r.set(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 50)
	s.send(100)
	r.set(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1)
}

// sendFiles sends so many files that the flow leaves the sockhash.
func sendFiles(s, r *end) {
	s.Helper()
	path := filepath.Join(s.TempDir(), "page")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		s.Fatal(err)
	}
	for range 20 {
		file, err := os.Open(path)
		if err != nil {
			s.Fatal(err)
		}
		n, err := unix.Sendfile(s.fd, int(file.Fd()), nil, 4096)
		file.Close()
		if n != 4096 {
			s.Fatalf("send a file: %d, %v", n, err)
		}
		r.read(4096)
	}
}

// blockedReader waits inside a receive call, and an observer sees that.
func blockedReader(s, r *end) {
	s.Helper()
	if err := unix.SetNonblock(r.fd, false); err != nil {
		s.Fatal(err)
	}
	done := make(chan error, 1)
	for range 3 {
		fixture.Asleep(s, unix.SYS_READ, func() { _, err := unix.Read(r.fd, make([]byte, 1)); done <- err })
		s.send(1)
		if err := <-done; err != nil {
			s.Fatal(err)
		}
	}
}

// splicingReader calls splice(2), which the guard refuses once, and is noted from then on.
func splicingReader(s, r *end) {
	s.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		s.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	// It is noted when it wants nothing but splice: once is refused, and after that the sender uses TCP.
	s.send(1)
	for range 3 {
		if _, err := unix.Splice(r.fd, nil, pipe[1], nil, 1, unix.SPLICE_F_NONBLOCK); err == nil {
			return
		}
	}
	r.read(1)
}

// receiveAll waits for more bytes than have come, in a call that blocks.
func receiveAll(s, r *end) {
	s.Helper()
	if err := unix.SetNonblock(r.fd, false); err != nil {
		s.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := unix.Recvfrom(r.fd, make([]byte, 2), unix.MSG_WAITALL)
		done <- err
	}()
	s.send(1)
	s.send(1)
	if err := errors.Join(<-done, unix.SetNonblock(r.fd, true)); err != nil {
		s.Fatal(err)
	}
}
