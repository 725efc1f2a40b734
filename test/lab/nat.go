// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BypassMark is the SO_MARK of sockets that an outgoing Redirect exempts: a proxy's own connections, which
// would otherwise come back to the proxy.
const BypassMark = 0x5ea

// IPS_DST_NAT of the kernel's enum ip_conntrack_status: the destination of this
// connection was translated.
const conntrackDstNAT = 1 << 5

// Service translates vip to backend by DNAT, for the node itself, its pods and hosts, as a ClusterIP does. It
// also masquerades the client's address, so that replies come back the same way when client and backend are
// on one bridge, or are the same pod.
func (n *Node) Service(vip, backend netip.AddrPort) error {
	if vip.Addr().Is4() != backend.Addr().Is4() {
		return fmt.Errorf("make service %s to %s: addresses of different families", vip, backend)
	}
	err := inNetNS(n.netns, func() error {
		if err := n.routeToService(vip.Addr()); err != nil {
			return err
		}
		t, err := newNAT(vip.Addr())
		if err != nil {
			return err
		}
		rule := concat(t.isTCPTo(vip.Addr(), vip.Port()), t.dnat(backend))
		t.add("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, rule)
		t.add("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest, rule)
		if !n.addOnce("masquerade " + t.table.Name + fmt.Sprint(t.table.Family)) {
			return t.Flush()
		}
		t.add("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, masqueradeTranslated())
		return t.Flush()
	})
	if err != nil {
		return fmt.Errorf("make service %s to %s: %w", vip, backend, err)
	}
	return nil
}

// routeToService adds a route to the address. The kernel looks for one before the output chain can translate
// the destination.
func (n *Node) routeToService(vip netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	src := nodeIP4
	if vip.Is6() {
		src = nodeIP6
	}
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index,
		Dst:       ipNet(netip.PrefixFrom(vip, vip.BitLen())),
		Src:       src.AsSlice(),
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("add route to %s: %w", vip, err)
	}
	return nil
}

// addOnce returns true at the first call for what.
func (n *Node) addOnce(what string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	done := n.natted[what]
	n.natted[what] = true
	return !done
}

// Redirect sends TCP connections to fromPort of any address, of both families, to toPort of this pod instead.
// With out these are the connections that the pod makes, as for a sidecar proxy, and otherwise those that
// others make to the pod. With out, sockets with BypassMark are exempt.
func (p *Pod) Redirect(fromPort, toPort uint16, out bool) error {
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		err := inNetNS(p.netns, func() error {
			t, err := newNAT(any)
			if err != nil {
				return err
			}
			if out {
				rule := concat(isNotMarked(BypassMark), isTCPPort(fromPort), redirect(toPort))
				t.add("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest, rule)
			} else {
				rule := concat(isTCPPort(fromPort), redirect(toPort))
				t.add("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, rule)
			}
			return t.Flush()
		})
		if err != nil {
			return fmt.Errorf("redirect port %d of %s to %d: %w", fromPort, p, toPort, err)
		}
	}
	return nil
}

// A nat is a batch of changes to the lab's nftables table of one family.
type nat struct {
	*nftables.Conn
	table *nftables.Table
}

// newNAT is for the network namespace of the calling thread.
func newNAT(family netip.Addr) (*nat, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	t := &nftables.Table{Name: "lab", Family: nftables.TableFamilyIPv4}
	if family.Is6() {
		t.Family = nftables.TableFamilyIPv6
	}
	return &nat{Conn: c, table: c.AddTable(t)}, nil
}

// add adds a rule to a chain, and makes the chain if it is missing.
func (t *nat) add(chain string, hook *nftables.ChainHook, prio *nftables.ChainPriority, rule []expr.Any) {
	c := t.AddChain(&nftables.Chain{
		Name: chain, Table: t.table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: prio,
	})
	t.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: rule})
}

func concat(parts ...[]expr.Any) (rule []expr.Any) {
	for _, p := range parts {
		rule = append(rule, p...)
	}
	return rule
}

func port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// isTCPTo is `ip daddr ADDR tcp dport PORT`.
func (t *nat) isTCPTo(addr netip.Addr, dport uint16) []expr.Any {
	offset, length := uint32(16), uint32(4) // daddr of an IPv4 header
	if addr.Is6() {
		offset, length = 24, 16
	}
	return concat([]expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr.AsSlice()},
	}, isTCPPort(dport))
}

// isTCPPort is `tcp dport PORT`.
func isTCPPort(dport uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: port(dport)},
	}
}

// isNotMarked is `meta mark != MARK`.
func isNotMarked(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}
}

// dnat is `dnat to ADDR:PORT`.
func (t *nat) dnat(to netip.AddrPort) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: port(to.Port())},
		&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: uint32(t.table.Family),
			RegAddrMin: 1, RegProtoMin: 2, Specified: true,
		},
	}
}

// redirect is `redirect to :PORT`.
func redirect(to uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: port(to)},
		&expr.Redir{RegisterProtoMin: 1, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
}

// masqueradeTranslated is `ct status dnat masquerade`.
func masqueradeTranslated() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(conntrackDstNAT), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Masq{},
	}
}
