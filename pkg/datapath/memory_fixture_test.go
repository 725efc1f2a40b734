// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// lacking ends the test: as failed in a guest, which must have what is missing, and otherwise as skipped.
func lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	if inGuest() {
		t.Fatalf("this guest must have it: "+format, args...)
	}
	t.Skipf(format, args...)
}

// content is the data of one connection. Each byte is a function of its position, so it is compared without a
// copy.
type content struct{ seed uint64 }

func (s content) fill(b []byte, at int) {
	for i := range b {
		x := (uint64(at+i) + s.seed<<32) * 0x9e3779b97f4a7c15
		b[i] = byte(x >> 56)
	}
}

// rawSender is the sending end of a connection, with a descriptor that blocks, so that send(2) returns what
// the kernel returns.
type rawSender struct {
	fd   int
	flag int // MSG_DONTWAIT, or 0 with a time limit
	content
	sent    int
	sends   int
	refused int // of them, for want of memory
}

// heldAfter is how long a blocking send may wait before it counts as held back.
const heldAfter = 300 * time.Millisecond

func newRawSender(t testing.TB, g *group, to net.Addr, waits bool, seed uint64) *rawSender {
	t.Helper()
	s := &rawSender{flag: unix.MSG_DONTWAIT, content: content{seed}}
	a := to.(*net.TCPAddr)
	var err error
	g.in(t, func() {
		if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.Connect(s.fd, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	if waits {
		s.flag = 0
		limit := unix.NsecToTimeval(heldAfter.Nanoseconds())
		if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *rawSender) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
	s.fd = -1
}

// send sends the next bytes of the stream, once, and adds what was taken.
func (s *rawSender) send(buf []byte) error {
	s.fill(buf, s.sent)
	for {
		n, err := unix.SendmsgN(s.fd, buf, nil, nil, s.flag|unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		s.sends++
		s.sent += max(n, 0)
		if err == nil && n < len(buf) {
			return unix.EAGAIN
		}
		return err
	}
}

// untilHeld sends messages until one is held back. Any other error of send is an error.
func (s *rawSender) untilHeld(size, most int) error {
	buf := make([]byte, size)
	for s.sent < most {
		if err := s.send(buf); errors.Is(err, unix.EAGAIN) {
			return nil
		} else if err != nil {
			return fmt.Errorf("send %d after %d bytes: %w", s.sends, s.sent, err)
		}
	}
	return fmt.Errorf("nothing held the sender back: %d bytes taken", s.sent)
}

// writable waits for a while until TCP reports that there is room. Redirected bytes make no such event.
func (s *rawSender) writable() {
	unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, 100)
}

// reading compares what arrives with the stream until this many bytes have come.
func (s content) reading(c net.Conn, from, until int) error {
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := from; at < until; {
		if err := c.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
			return err
		}
		n, err := c.Read(got[:min(len(got), until-at)])
		if err != nil {
			return fmt.Errorf("read after %d of %d bytes: %w", at, until, err)
		}
		if s.fill(want[:n], at); !bytes.Equal(got[:n], want[:n]) {
			return fmt.Errorf("bytes %d to %d differ from what was sent", at, at+n)
		}
		at += n
	}
	return nil
}

// memoryGroup is a cgroup whose memory is limited: sockets that are accepted in it are charged to it.
type memoryGroup struct {
	dir, home string
	v1        bool
	usage     string // file with the bytes that are charged
	limit     func() // sets the limit once the connections are made; nil: it is set
}

// in runs f on a thread (version 1) or in a process (version 2) of the group.
func (m *memoryGroup) in(t testing.TB, f func()) {
	t.Helper()
	file, id := "cgroup.procs", os.Getpid()
	if m.v1 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		file, id = "tasks", unix.Gettid()
	}
	putFile(t, m.dir+"/"+file, strconv.Itoa(id))
	defer putFile(t, m.home+"/"+file, strconv.Itoa(id))
	f()
}

func (m *memoryGroup) limitNow() {
	if m != nil && m.limit != nil {
		m.limit()
	}
}

func (m *memoryGroup) charged(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile(m.dir + "/" + m.usage)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func putFile(t testing.TB, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// removeLater removes a cgroup when its processes have ended.
func removeLater(t testing.TB, dir string) {
	t.Cleanup(func() {
		var err error
		if !fixture.Within(fixture.Patience, func() bool {
			err = os.Remove(dir)
			return err == nil || os.IsNotExist(err)
		}) {
			t.Errorf("remove cgroup: %v", err)
		}
	})
}

// flood are senders of connections whose readers are all charged to one memory cgroup, or to none.
type flood struct {
	senders []*rawSender
	readers []*net.TCPConn
}

// newFlood makes them in a network namespace of their own, where TCP's own buffers are small, because this is
// not about bytes that TCP holds.
func newFlood(t testing.TB, g *group, m *memoryGroup, flows int, waits bool) (f *flood) {
	t.Helper()
	ns := netnstest.New(t)
	ns.Sysctl(t, "ipv4/tcp_wmem", "4096 16384 262144")
	ns.Do(func() { f = floodHere(t, g, m, flows, waits) })
	if t.Failed() {
		t.FailNow()
	}
	return f
}

func floodHere(t testing.TB, g *group, m *memoryGroup, flows int, waits bool) *flood {
	t.Helper()
	f := &flood{}
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	defer l.Close()
	for i := range flows {
		f.senders = append(f.senders, newRawSender(t, g, l.Addr(), waits, uint64(i+1)))
	}
	taken := func() {
		for range flows {
			f.readers = append(f.readers, accept(t, l))
		}
	}
	if m == nil || m.dir == "" {
		taken()
	} else {
		m.in(t, taken)
	}
	// The order of accepting is that of connecting: both queues of the listener are first in, first out.
	for i, c := range f.readers {
		if own, err := unix.Getsockname(f.senders[i].fd); err != nil ||
			own.(*unix.SockaddrInet4).Port != c.RemoteAddr().(*net.TCPAddr).Port {
			t.Fatalf("connection %d is another one, %v", i, err)
		}
	}
	return f
}

// all runs one function for each connection at the same time.
func (f *flood) all(do func(s *rawSender, c *net.TCPConn) error) error {
	var wait sync.WaitGroup
	errs := make([]error, len(f.senders))
	for i := range f.senders {
		wait.Go(func() { errs[i] = do(f.senders[i], f.readers[i]) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (f *flood) close() {
	for i, s := range f.senders {
		s.close()
		f.readers[i].Close()
	}
}

// drain reads everything that was sent.
func (f *flood) drain() error {
	return f.all(func(s *rawSender, c *net.TCPConn) error { return s.reading(c, 0, s.sent) })
}

// mixed sends messages of these sizes in turn, and now and then a very large one, to readers that are behind
// most of the time; each byte is compared. It ends after this many sends of each connection, and returns how
// many there were in all, and how many of them the kernel had no memory for.
func (f *flood) mixed(each int, sizes []int) (sends, refused int, err error) {
	err = f.all(func(s *rawSender, c *net.TCPConn) error {
		var sent atomic.Int64
		ended := make(chan struct{})
		failed := make(chan error, 1)
		go func() { failed <- slowReader(s.content, c, &sent, ended) }()
		err := s.sendMixed(each, sizes, &sent)
		close(ended)
		if err != nil {
			c.Close()
		}
		return errors.Join(err, <-failed)
	})
	for _, s := range f.senders {
		sends += s.sends
		refused += s.refused
	}
	return sends, refused, err
}

func (s *rawSender) sendMixed(each int, sizes []int, sent *atomic.Int64) error {
	buf := make([]byte, 512<<10)
	for end := time.Now().Add(3 * time.Minute); s.sends < each; {
		size := sizes[s.sends%len(sizes)]
		if s.sends%97 == 0 && len(sizes) > 1 {
			size = len(buf)
		}
		err := s.send(buf[:size])
		sent.Store(int64(s.sent))
		if errors.Is(err, unix.EAGAIN) {
			s.writable()
			err = nil
		}
		if errors.Is(err, unix.ENOMEM) {
			s.refused++
			err = nil
		}
		if err != nil {
			return fmt.Errorf("send %d of %d bytes: %w", s.sends, size, err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("only %d of %d sends in time", s.sends, each)
		}
	}
	return nil
}

// slowReader reads what there is and then pauses, so that senders are at the limit of memory more often.
func slowReader(s content, c net.Conn, sent *atomic.Int64, ended <-chan struct{}) error {
	at := 0
	for {
		over := false
		select {
		case <-ended:
			over = true
		case <-time.After(3 * time.Millisecond):
		}
		until := int(sent.Load())
		if !over {
			until = min(until, at+256<<10)
		}
		if err := s.reading(c, at, until); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		} else if err != nil {
			return io.ErrUnexpectedEOF
		}
		if at = until; over {
			return nil
		}
	}
}

// fellBack counts the fallbacks for a reason on this node.
func fellBack(t testing.TB, d *Datapath, reason Reason) (n uint64) {
	t.Helper()
	all, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	for _, sums := range all {
		n += sums.Fallbacks[reason]
	}
	return n
}

// legacyHome is this process's cgroup in a hierarchy of version 1.
func legacyHome(controller string) (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && parts[1] == controller {
			return parts[2], nil
		}
	}
	return "", fmt.Errorf("no hierarchy of %s", controller)
}
