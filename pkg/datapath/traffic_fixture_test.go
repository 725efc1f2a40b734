// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// pattern fills b with bytes that depend on the seed and on each position.
func pattern(b []byte, seed uint64) []byte {
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	src.Read(b)
	return b
}

// send writes size bytes at one end and compares what the other end reads.
func send(t testing.TB, from, to net.Conn, size int, seed uint64) {
	t.Helper()
	want := pattern(make([]byte, size), seed)
	deadline(t, from) // that of an earlier call may be over
	written := make(chan error, 1)
	go func() {
		_, err := from.Write(want)
		written <- err
	}()
	receive(t, to, want)
	if err := <-written; err != nil {
		t.Fatalf("write: %v", err)
	}
}

// receive reads len(want) bytes and compares them.
func receive(t testing.TB, from net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	deadline(t, from)
	if n, err := io.ReadFull(from, got); err != nil {
		t.Fatalf("read: %v after %d of %d bytes", err, n, len(want))
	}
	if !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		t.Fatalf("byte %d of %d differs", i, len(want))
	}
}

func wantEOF(t testing.TB, c net.Conn) {
	t.Helper()
	deadline(t, c)
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes and error %v, want end of file", n, err)
	}
}

// deadline bounds calls that must succeed, also on a slow machine: TCP alone may pause for seconds.
func deadline(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func dialFrom(t testing.TB, from, to string) *net.TCPConn {
	local, err := net.ResolveTCPAddr("tcp4", from)
	if err != nil {
		t.Error(err)
		return nil
	}
	c, err := (&net.Dialer{LocalAddr: local, Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp4",
		to)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// flowsOf lists all live ends.
func (d *Datapath) flowsOf(t testing.TB) (all []Flow) {
	t.Helper()
	if err := d.Flows(func(f Flow) bool { all = append(all, f); return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

// socketsIn counts the sockhash.
func socketsIn(t testing.TB, d *Datapath) int {
	t.Helper()
	return entriesIn(t, d, bpf.SockmapMapSockets, 8)
}

// entriesIn counts the entries of a map whose keys are those of ends.
func entriesIn(t testing.TB, d *Datapath, name string, valueSize uintptr) (n int) {
	t.Helper()
	m, err := d.mapOf(name, valueSize)
	if err != nil {
		t.Fatal(err)
	}
	var key, next bpf.SockmapIsnPair
	for err = m.NextKey(nil, &next); err == nil; err = m.NextKey(&key, &next) {
		n, key = n+1, next
	}
	return n
}

func wantNoSockets(t testing.TB, d *Datapath) {
	t.Helper()
	if n := socketsIn(t, d); n != 0 {
		t.Errorf("%d sockets are in the sockhash, want none", n)
	}
}

func wantFlows(t testing.TB, d *Datapath, role Role, result Result, want uint64) {
	t.Helper()
	if got := flowsCounted(t, d, role, result); got != want {
		t.Errorf("%d flows counted as %s %s, want %d", got, role, result, want)
	}
}

func flowsCounted(t testing.TB, d *Datapath, role Role, result Result) (n uint64) {
	t.Helper()
	all, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	for _, sums := range all {
		n += sums.Flows[role][result]
	}
	return n
}

// eventually is fixture.Wait.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	fixture.Wait(t, what, ok)
}

type rawSocket struct{ syscall.RawConn }

func rawConn(t testing.TB, c *net.TCPConn) rawSocket {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return rawSocket{raw}
}

func (r rawSocket) control(t testing.TB, f func(fd int) error) {
	t.Helper()
	var err error
	if ctlErr := r.Control(func(fd uintptr) { err = f(int(fd)) }); ctlErr != nil {
		t.Fatal(ctlErr)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func disconnect(fd int) error {
	addr := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&addr)),
		unsafe.Sizeof(addr))
	if errno != 0 {
		return fmt.Errorf("disconnect: %w", errno)
	}
	return nil
}

func connect4(fd int, to net.Addr) error {
	a := to.(*net.TCPAddr)
	sa := &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
	var err error
	fixture.Within(fixture.Patience, func() bool {
		err = unix.Connect(fd, sa)
		return !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EALREADY)
	})
	if errors.Is(err, unix.EISCONN) {
		return nil
	}
	return err
}

// receiveMemory is the kernel's own count of what waits at the socket: SO_MEMINFO's SK_MEMINFO_RMEM_ALLOC.
func receiveMemory(t testing.TB, c *net.TCPConn) (bytes uint32) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error { bytes = queuedMemory(t, fd); return nil })
	return bytes
}

func queuedMemory(t testing.TB, fd int) (bytes uint32) {
	t.Helper()
	return memoryOf(t, fd)[unix.SK_MEMINFO_RMEM_ALLOC]
}

// memoryOf is SO_MEMINFO.
func memoryOf(t testing.TB, fd int) (info [9]uint32) {
	t.Helper()
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		t.Fatalf("SO_MEMINFO: %v", errno)
	}
	return info
}
