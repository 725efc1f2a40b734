// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Host is a machine off the node. It is no endpoint and in no pod's cgroup.
type Host struct {
	Place
	ips []netip.Addr
}

// External makes a host that is joined to the node by a veth of its own, with its default route through the
// node. Closing the node closes the host.
func (n *Node) External(ctx context.Context, name string) (*Host, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("make host %s: node %s is closed", name, n.id)
	}
	k := byte(len(n.hosts))
	c := cable{
		node4: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, k, 1}), 24),
		host4: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, k, 2}), 24),
		node6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 18, 0, k, 15: 1}), 64),
		host6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 18, 0, k, 15: 2}), 64),
	}
	h := &Host{ips: []netip.Addr{c.host4.Addr(), c.host6.Addr()}}
	var err error
	h.Place, err = newPlace(filepath.Join(n.dir, "netns", fmt.Sprintf("host%d", k)), nil)
	h.procs, h.bin = n.procs, n.bin
	n.hosts = append(n.hosts, h) // also after an error: Close finds it
	if err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	link := fmt.Sprintf("ext%d", k)
	if err := inNetNS(n.netns, func() error { return c.plugIntoNode(link, h.netns) }); err != nil {
		return nil, fmt.Errorf("join host %s to the node: %w", name, err)
	}
	if err := inNetNS(h.netns, c.plugIntoHost); err != nil {
		return nil, fmt.Errorf("set up host %s: %w", name, err)
	}
	return h, nil
}

// IPs are the host's addresses, IPv4 first.
func (h *Host) IPs() []netip.Addr { return h.ips }

// Close removes the host, if that is wanted before the node is closed. Its processes end with the node.
func (h *Host) Close() error {
	if h.netns == "" {
		return nil
	}
	return dropNetNS(h.netns)
}

// A cable is a veth with its addresses at both ends.
type cable struct{ node4, host4, node6, host6 netip.Prefix }

func (c cable) plugIntoNode(name, host string) error {
	fd, err := unix.Open(host, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", host, err)
	}
	defer unix.Close(fd)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth %s: %w", name, err)
	}
	return setUp(name, c.node4, c.node6)
}

func (c cable) plugIntoHost() error {
	if err := setUp("eth0", c.host4, c.host6); err != nil {
		return err
	}
	for _, gw := range []netip.Addr{c.node4.Addr(), c.node6.Addr()} {
		// Without a destination it is the default route.
		if err := netlink.RouteAdd(&netlink.Route{Gw: net.IP(gw.AsSlice())}); err != nil {
			return fmt.Errorf("add default route via %s: %w", gw, err)
		}
	}
	return nil
}

func setUp(name string, addrs ...netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set interface %s up: %w", name, err)
	}
	for _, a := range addrs {
		if err := addAddr(link, a); err != nil {
			return err
		}
	}
	return nil
}

func addAddr(link netlink.Link, a netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s to %s: %w", a, link.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
