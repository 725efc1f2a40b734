// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A Place is where sockets and processes are made: a network namespace and a
// cgroup. Nodes, pods and hosts are places.
type Place struct {
	netns   string // path of the mounted namespace
	cookie  uint64
	sockets string // cgroup that sockets made by this process belong to; "" = its own
	procs   string // cgroup of processes started here
	bin     string // directory of the traffic program
}

// newPlace makes the network namespace at path. If it returns an error and something is left to remove, the
// returned place has its path.
func newPlace(path string, setup func() error) (Place, error) {
	var p Place
	err := makeNetNS(path, func() (err error) {
		p.netns = path
		if err := setUpLoopback(); err != nil {
			return err
		}
		if p.cookie, err = netnsCookie(); err != nil || setup == nil {
			return err
		}
		return setup()
	})
	return p, err
}

// NetNS is the path of the network namespace.
func (p *Place) NetNS() string { return p.netns }

// Bin is the directory of the plugins and the traffic program.
func (p *Place) Bin() string { return p.bin }

// NetNSCookie is the netns cookie of sockets made here, by SO_NETNS_COOKIE.
func (p *Place) NetNSCookie() uint64 { return p.cookie }

// Do runs f in the calling goroutine, on a thread that is in the network
// namespace, and, in a pod, with this process moved to the container's cgroup.
// Sockets that f makes belong to the place for their whole life, so f should
// only make them, and read and write elsewhere:
//
//   - only one pod's Do runs at a time in a process, and none of a node or host
//     meanwhile;
//   - sockets and processes that other goroutines make without this package while
//     a pod's Do runs belong to that pod's cgroup;
//   - Do, Listen and Dial of any place must not be called by f.
//
// f may end the goroutine, as t.Fatal does.
func (p *Place) Do(f func() error) error {
	return p.do(func(func() error) error { return f() })
}

// do is Do, and lets f leave the cgroup before f returns.
func (p *Place) do(f func(leave func() error) error) (err error) {
	leave, err := join(p.sockets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	return inNetNS(p.netns, func() error { return f(leave) })
}

// A SocketOption changes how Listen and Dial make a socket.
type SocketOption func(*socketOptions)

type socketOptions struct {
	mptcp   bool
	control []func(fd int) error
}

// WithMPTCP asks for Multipath TCP, which is off otherwise: Go's listeners have
// it on by default, and accelerated sockets are plain TCP.
func WithMPTCP() SocketOption { return func(o *socketOptions) { o.mptcp = true } }

// WithControl calls f with the new socket before it is bound or connected.
func WithControl(f func(fd int) error) SocketOption {
	return func(o *socketOptions) { o.control = append(o.control, f) }
}

// Listen listens on addr, an IP address and port; network is tcp, tcp4 or tcp6.
func (p *Place) Listen(network, addr string, opts ...SocketOption) (l net.Listener, err error) {
	if err := literal(addr); err != nil {
		return nil, err
	}
	err = p.do(func(func() error) error {
		o := collect(opts)
		lc := net.ListenConfig{Control: o.hook(p.cookie, nil)}
		lc.SetMultipathTCP(o.mptcp)
		l, err = lc.Listen(context.Background(), network, addr)
		return err
	})
	return l, err
}

// dialTimeout bounds Dial.
const dialTimeout = 10 * time.Second

// Dial connects to addr, an IP address and port, within ten seconds.
func (p *Place) Dial(network, addr string, opts ...SocketOption) (net.Conn, error) {
	return p.DialContext(context.Background(), network, addr, opts...)
}

// DialContext is Dial, bounded by ctx as well.
func (p *Place) DialContext(ctx context.Context, network, addr string,
	opts ...SocketOption) (c net.Conn, err error) {
	if err := literal(addr); err != nil {
		return nil, err
	}
	err = p.do(func(leave func() error) error {
		o := collect(opts)
		// The process leaves the cgroup as soon as the socket exists, so that others need not wait until it
		// is connected.
		d := net.Dialer{Timeout: dialTimeout, Control: o.hook(p.cookie, leave)}
		d.SetMultipathTCP(o.mptcp)
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	if err != nil && c != nil {
		_ = c.Close()
		c = nil
	}
	return c, err
}

// literal refuses host names: looking them up, and trying several addresses, would make sockets on other
// threads.
func literal(addr string) error {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return fmt.Errorf("parse address %q: %w", addr, err)
	}
	return nil
}

func collect(opts []SocketOption) *socketOptions {
	o := new(socketOptions)
	for _, opt := range opts {
		opt(o)
	}
	return o
}

// hook checks that the new socket is in the right network namespace.
func (o *socketOptions) hook(cookie uint64, leave func() error) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) {
			var got uint64
			if got, err = socketCookie(int(fd)); err == nil && got != cookie {
				err = fmt.Errorf("make socket: it is in network namespace %d instead of %d", got, cookie)
			}
			for _, f := range o.control {
				err = errors.Join(err, f(int(fd)))
			}
		})
		if leave != nil {
			err = errors.Join(err, leave())
		}
		return errors.Join(cerr, err)
	}
}

// Command returns a command for Start. It is killed when ctx ends or when the place is closed.
func (p *Place) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second // for children that hold its output open
	return cmd
}

// Start starts cmd in the network namespace and in the cgroup; for a pod, in its container's cgroup. The
// caller waits for cmd.
func (p *Place) Start(cmd *exec.Cmd) error {
	dir, err := os.Open(p.procs)
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	defer dir.Close()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	// The child starts in its cgroup: if it were moved there later, it could have made sockets before.
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(dir.Fd())
	if err := inNetNS(p.netns, cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return nil
}

// Output runs a command here and returns its standard output. The error contains its standard error.
func (p *Place) Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := p.Command(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := p.Start(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return stdout.Bytes(), fmt.Errorf("run %s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}
