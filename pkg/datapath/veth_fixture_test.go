// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// joinNamespaces lets each client reach one address of the server's namespace, which it returns with a free
// port.
func joinNamespaces(t *testing.T, server *netnstest.NetNS, clients ...*netnstest.NetNS) netip.AddrPort {
	t.Helper()
	address := netip.MustParseAddr("10.77.0.1")
	try := func(ns *netnstest.NetNS, f func() error) {
		t.Helper()
		ns.Do(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	try(server, func() error { return addAddress("lo", address) })
	for i, client := range clients {
		var inside *os.File
		try(client, func() (err error) { inside, err = os.Open("/proc/thread-self/ns/net"); return err })
		defer inside.Close()
		outer, own := fmt.Sprintf("client%d", i), netip.AddrFrom4([4]byte{10, 77, 1, byte(i + 1)})
		try(server, func() error {
			attributes := netlink.NewLinkAttrs()
			attributes.Name = outer
			veth := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsFd(inside.Fd())}
			return errors.Join(netlink.LinkAdd(veth), routeTo(outer, own))
		})
		try(client, func() error { return errors.Join(addAddress("eth0", own), routeTo("eth0", address)) })
	}
	if t.Failed() {
		t.FailNow()
	}
	return netip.AddrPortFrom(address, 7000)
}

func addAddress(device string, address netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: hostNet(address)})
}

func routeTo(device string, address netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: hostNet(address), Scope: unix.RT_SCOPE_LINK}
	return errors.Join(netlink.LinkSetUp(link), netlink.RouteAdd(route))
}

func hostNet(address netip.Addr) *net.IPNet {
	return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(address.BitLen(), address.BitLen())}
}
