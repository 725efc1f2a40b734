// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stuck bounds each wait for data.
const stuck = 5 * time.Second

// Addresses of the two ends, in namespaces that nobody else sees.
var (
	clientAddr = [4]byte{10, 0, 0, 1}
	serverAddr = [4]byte{10, 0, 0, 2}
)

// serveSide measures what it is told to, until there is nothing more. It runs in a network namespace of its own.
func serveSide(args []string) error {
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the client: this namespace
	listener, err := layCable()
	if err != nil {
		return fmt.Errorf("connect two network namespaces: %w", err)
	}
	if err := pin(cpu); err != nil {
		return err
	}
	if err := startServer(listener, cpu); err != nil {
		return err
	}
	orders, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		m, err := measure(o)
		if err != nil {
			m.Error = err.Error()
		}
		if err := answers.Encode(m); err != nil {
			return err
		}
	}
}

func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	return nil
}

// layCable makes another network namespace, a veth pair to it, and a listener there.
func layCable() (listener int, err error) {
	far := make(chan error)
	var ns int
	ready := make(chan bool)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		far <- err
		if err != nil || !<-ready {
			return
		}
		err = bringUp("sockmap1", serverAddr)
		if err == nil {
			listener, err = listen()
		}
		far <- err
	}()
	if err := <-far; err != nil {
		return 0, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "sockmap0"
	err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "sockmap1", PeerNamespace: netlink.NsFd(ns)})
	if err == nil {
		err = bringUp("sockmap0", clientAddr)
	}
	ready <- err == nil
	if err != nil {
		return 0, err
	}
	return listener, <-far
}

func bringUp(name string, addr [4]byte) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(fmt.Sprintf("%d.%d.%d.%d/24", addr[0], addr[1], addr[2], addr[3]))
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func listen() (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	return fd, errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: serverAddr, Port: 1}), unix.Listen(fd, 8))
}

// conn is a socket that waits with poll(2), as servers do.
type conn int

func dial() (conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: serverAddr, Port: 1}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("connect: %w", err)
	}
	return conn(fd), ready(fd)
}

func ready(fd int) error {
	return errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}

func (c conn) await(events int16) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c), Events: events}}, int(stuck/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = errors.New("nothing came for 5 s")
		}
		return err
	}
}

func (c conn) writeAll(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(int(c), b)
		if errors.Is(err, unix.EAGAIN) {
			err = c.await(unix.POLLOUT)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(0, n):]
	}
	return nil
}

// readSome returns io.EOF at the end.
func (c conn) readSome(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(c), b)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := c.await(unix.POLLIN); err != nil {
				return 0, err
			}
		case errors.Is(err, unix.EINTR):
		case err == nil && n == 0:
			return 0, io.EOF
		default:
			return n, err
		}
	}
}

func (c conn) readAll(b []byte) error {
	for len(b) > 0 {
		n, err := c.readSome(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// measure makes one connection for one measurement.
func measure(o order) (m measured, err error) {
	client, err := dial()
	if err != nil {
		return m, err
	}
	defer unix.Close(int(client))
	begin := time.Now()
	if err = client.announce(o.Case); err != nil {
		return m, err
	}
	if o.Kind == Stream {
		m, err = client.stream(o)
	} else {
		m, err = client.requests(o)
	}
	err = errors.Join(err, unix.Shutdown(int(client), unix.SHUT_WR))
	if err != nil {
		return m, err
	}
	got, err := client.tally()
	if o.Kind == Stream {
		m.Value = float64(m.Sent) / time.Since(begin).Seconds()
	}
	if arrived := m.arriving(o.Kind); err == nil && got != arrived {
		err = fmt.Errorf("%d of %d bytes arrived", got, arrived)
	}
	m.Sent += frame
	return m, err
}

// arriving is what of the bytes that both ends sent went to the server.
func (m measured) arriving(kind Kind) uint64 {
	if kind == Stream {
		return m.Sent
	}
	return m.Sent / 2
}

// requests gives the median time of a request and its answer.
func (c conn) requests(o order) (m measured, err error) {
	buf := make([]byte, o.Bytes)
	var times []time.Duration
	for begin := time.Now(); time.Since(begin) < o.Time || len(times) < 10; {
		start := time.Now()
		if err := errors.Join(c.writeAll(buf), c.readAll(buf)); err != nil {
			return m, err
		}
		times = append(times, time.Since(start))
		m.Sent += 2 * uint64(o.Bytes)
	}
	slices.Sort(times)
	m.Value = float64(times[len(times)/2])
	return m, nil
}

// stream only writes: how fast that was is known when the reader is through.
func (c conn) stream(o order) (m measured, err error) {
	buf := make([]byte, o.Bytes)
	begin := time.Now()
	for time.Since(begin) < o.Time {
		if err := c.writeAll(buf); err != nil {
			return m, err
		}
		m.Sent += uint64(o.Bytes)
	}
	return m, nil
}
