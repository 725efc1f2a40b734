// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	serverIP8080 = "10.79.0.2:8080"
)

// crossing connects a client in one namespace to port 8080 in another, over a veth pair.
func crossing(t *testing.T, a, b pod) (client, server *net.TCPConn) {
	t.Helper()
	cable(t, a.NetNS, b.NetNS)
	var l net.Listener
	b.group.in(t, func() { b.Do(func() { l = listen(t, "tcp4", serverIP8080) }) })
	defer l.Close()
	a.group.in(t, func() { a.Do(func() { client = dial(t, "tcp4", serverIP8080) }) })
	return client, accept(t, l)
}

// cable lays a veth pair between two namespaces. It goes away with them.
func cable(t *testing.T, a, b *netnstest.NetNS) {
	t.Helper()
	fd := -1
	b.Do(func() {
		var err error
		if fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			t.Error(err)
		}
	})
	defer unix.Close(fd)
	a.Do(func() {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0",
			PeerNamespace: netlink.NsFd(fd)}
		if err := netlink.LinkAdd(veth); err != nil {
			t.Errorf("add veth: %v", err)
		}
		cableEnd(t, net.IPv4(10, 79, 0, 1))
	})
	b.Do(func() { cableEnd(t, net.IPv4(10, 79, 0, 2)) })
	if t.Failed() {
		t.FailNow()
	}
}

func cableEnd(t *testing.T, ip net.IP) {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Errorf("find veth: %v", err)
		return
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip.To4(),
		Mask: net.CIDRMask(24, 32)}}); err != nil {
		t.Errorf("add address %s: %v", ip, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Errorf("set veth up: %v", err)
	}
}
