// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { fixture.Main(m) }

const (
	patience   = 5 * time.Second
	serverAddr = "10.77.0.1"
	clientAddr = "10.77.1.1"
)

// testPod is a network namespace with a name and an address.
type testPod struct {
	*netnstest.NetNS
	name string
	addr netip.Addr
}

func newTestPod(t *testing.T, name, addr string) *testPod {
	t.Helper()
	p := &testPod{NetNS: netnstest.New(t), name: name, addr: netip.MustParseAddr(addr)}
	p.Sysctl(t, "ipv4/tcp_fastopen", "1543") // both ways, without cookies
	if err := p.do(p.setUp); err != nil {
		t.Fatalf("set up network namespace: %v", err)
	}
	return p
}

// setUp gives loopback the pod's address.
func (p *testPod) setUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	own, err := netlink.ParseAddr(p.addr.String() + "/32")
	if err != nil {
		return err
	}
	return netlink.AddrAdd(lo, own)
}

// do runs f on the thread of the pod.
func (p *testPod) do(f func() error) (err error) {
	p.Do(func() { err = f() })
	return err
}

// node is loaded state. A load takes half a minute in an emulated guest, so rows share it.
type node struct {
	d      *datapath.Datapath
	bounds datapath.Settings
}

func newNode(t *testing.T, s datapath.Settings) *node {
	t.Helper()
	dir := fixture.StateDir(t)
	d, err := datapath.Load(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(datapath.Unload(dir, false), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return &node{d, s}
}

// nodes loads each of the settings that it is asked for once, until the test ends.
func nodes(t *testing.T) func(datapath.Settings) *node {
	loaded := map[string]*node{}
	return func(s datapath.Settings) *node {
		key := fmt.Sprint(s)
		if loaded[key] == nil {
			loaded[key] = newNode(t, s)
		}
		return loaded[key]
	}
}

// place is a node with two pods that reach each other, in one cgroup whose link takes registered endpoints.
type place struct {
	*testing.T
	*node
	cgroup  string
	web, db *testPod
}

// place makes the pods; settings of the node are reset when the test ends.
func (n *node) place(t *testing.T) *place {
	t.Helper()
	p := &place{T: t, node: n, web: newTestPod(t, "shop/web-0", clientAddr),
		db: newTestPod(t, "shop/db-0", serverAddr)}
	p.wire()
	var id uint64
	p.cgroup, id = fixture.Cgroup(t, fixture.CgroupMount(t))
	group, err := os.Open(p.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	key := datapath.LinkKey{CgroupID: id}
	if _, err := n.d.Attach(group, key); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := n.d.SetHelperPorts(nil)
		for _, pod := range []*testPod{p.web, p.db} {
			err = errors.Join(err, n.d.DeleteEndpoint(pod.Cookie))
		}
		if err := errors.Join(err, n.d.Detach(key), n.d.SetDisabled(false)); err != nil {
			t.Error(err)
		}
		p.live(func(*datapath.Live) {})
	})
	p.policy(p.web, datapath.Policy{Accelerate: true})
	p.policy(p.db, datapath.Policy{Accelerate: true})
	return p
}

// wire lets the pods reach each other.
func (p *place) wire() {
	p.Helper()
	other, err := os.Open(p.db.Path)
	if err != nil {
		p.Fatal(err)
	}
	defer other.Close()
	route := func(to netip.Addr) error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		dst, err := netlink.ParseIPNet(to.String() + "/32")
		if err != nil {
			return err
		}
		up := netlink.LinkSetUp(link)
		return errors.Join(up, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst,
			Scope: unix.RT_SCOPE_LINK}))
	}
	err = p.web.do(func() error {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = "eth0"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: "eth0",
			PeerNamespace: netlink.NsFd(other.Fd())})
	})
	if err == nil {
		err = errors.Join(p.web.do(func() error { return route(p.db.addr) }),
			p.db.do(func() error { return route(p.web.addr) }))
	}
	if err != nil {
		p.Fatalf("connect pods: %v", err)
	}
}

func (p *place) policy(pod *testPod, policy datapath.Policy) {
	p.Helper()
	if err := p.d.SetEndpoint(pod.Cookie, policy); err != nil {
		p.Fatal(err)
	}
}

// inside runs f on the pod's thread while this process is in the cgroup: sockets that f makes belong to it
// for life.
func (p *place) inside(pod *testPod, f func() error) {
	p.Helper()
	p.move(p.cgroup)
	defer p.move(filepath.Dir(p.cgroup))
	if err := pod.do(f); err != nil {
		p.Fatal(err)
	}
}

func (p *place) move(group string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())),
		0); err != nil {
		p.Fatal(err)
	}
}

// how a connection is made.
type how struct {
	from, to       *testPod // nil: web and db
	port           int      // 0: any
	protocol       int
	client, server func(fd int) error // sets options before connect, and on the listener
	outside        bool               // the server is in no cgroup that has a link
	blocking       bool               // the client's descriptor is
	noEvents       bool               // no end is in an epoll set
	fastOpen       bool               // 100 bytes are on the SYN
}

// end is one socket of a connection.
type end struct {
	*place
	pod   *testPod
	fd    int
	epoll int // -1: it is in none
	port  uint16
}

// connect makes a connection between two pods. Descriptors are non-blocking and in an epoll set, as those of
// event loops.
func (p *place) connect(h how) (client, server *end) {
	p.Helper()
	from, to := p.web, p.db
	if h.from != nil {
		from = h.from
	}
	if h.to != nil {
		to = h.to
	}
	listener := -1
	listen := func() (err error) { listener, err = p.listen(to, h); return err }
	if h.outside {
		if err := to.do(listen); err != nil {
			p.Fatal(err)
		}
	} else {
		p.inside(to, listen)
	}
	defer unix.Close(listener)
	name, err := unix.Getsockname(listener)
	if err != nil {
		p.Fatal(err)
	}
	port := uint16(name.(*unix.SockaddrInet4).Port)
	client, server = &end{p, from, -1, -1, port}, &end{p, to, -1, -1, port}
	p.inside(from, func() (err error) { client.fd, err = dial(h, name); return err })
	fixture.Wait(p, "the connection is accepted", func() bool {
		server.fd, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err == nil
	})
	for _, e := range []*end{client, server} {
		p.Cleanup(e.close)
		if !h.noEvents {
			e.watch()
		}
	}
	return client, server
}

func (p *place) listen(pod *testPod, h how) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, h.protocol)
	if err != nil {
		return -1, err
	}
	if h.fastOpen {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 5); err != nil {
			return fd, err
		}
	}
	if h.server != nil {
		if err := h.server(fd); err != nil {
			return fd, err
		}
	}
	return fd, errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: h.port, Addr: pod.addr.As4()}), unix.Listen(fd, 1))
}

func dial(h how, to unix.Sockaddr) (fd int, err error) {
	flags := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if !h.blocking {
		flags |= unix.SOCK_NONBLOCK
	}
	if fd, err = unix.Socket(unix.AF_INET, flags, h.protocol); err != nil {
		return -1, err
	}
	if h.client != nil {
		if err := h.client(fd); err != nil {
			return fd, err
		}
	}
	if h.fastOpen {
		return fd, unix.Sendto(fd, make([]byte, 100), unix.MSG_FASTOPEN, to)
	}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fd, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

func (e *end) close() {
	for _, fd := range []int{e.fd, e.epoll} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	e.fd, e.epoll = -1, -1
}

// watch puts the socket into an epoll set.
func (e *end) watch() {
	e.Helper()
	var err error
	if e.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		e.Fatal(err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN}
	if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, e.fd, &event); err != nil {
		e.Fatal(err)
	}
}

// send sends one message, which the kernel takes whole.
func (e *end) send(size int) {
	e.Helper()
	if n, err := unix.Write(e.fd, make([]byte, size)); n != size {
		e.Fatalf("write %d of %d bytes: %v", n, size, err)
	}
}

// read reads exactly size bytes.
func (e *end) read(size int) {
	e.Helper()
	buf := make([]byte, size)
	fixture.Wait(e, "all bytes arrive", func() bool {
		n, err := unix.Read(e.fd, buf[:size])
		if err == nil {
			size -= n
		}
		return size == 0
	})
}

func (e *end) set(level, option, value int) {
	e.Helper()
	if err := unix.SetsockoptInt(e.fd, level, option, value); err != nil {
		e.Fatalf("set option %d of level %d: %v", option, level, err)
	}
}

func exchange(from, to *end, messages int) {
	from.Helper()
	for range messages {
		from.send(100)
		to.read(100)
	}
}
