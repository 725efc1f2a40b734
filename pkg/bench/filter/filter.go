// SPDX-License-Identifier: Apache-2.0

// Package filter sets up the packet filter that plain TCP between two containers passes in all measurements
// of this project.
package filter

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Masquerade hides the addresses of containers outside of their own network, as ipMasq of the plugin bridge
// does: conntrack tracks all connections, and the first packet of each is evaluated. It changes the network
// namespace of the calling thread, whose bridges must filter. No other table there may have the name table.
func Masquerade(table string, network netip.Prefix, containers ...netip.Addr) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := c.AddTable(&nftables.Table{Name: table, Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	for _, container := range containers {
		rule := append(isAddr(sourceOffset, container, 32, expr.CmpOpEq),
			isAddr(destinationOffset, network.Addr(), network.Bits(), expr.CmpOpNeq)...)
		rule = append(rule, isAddr(destinationOffset, netip.MustParseAddr("224.0.0.0"), 4, expr.CmpOpNeq)...)
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(rule, &expr.Masq{})})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("make rules of the packet filter: %w", err)
	}
	return nil
}

// Offsets in an IPv4 header.
const (
	sourceOffset      = 12
	destinationOffset = 16
)

// isAddr compares the first bits of an address.
func isAddr(offset uint32, addr netip.Addr, bits int, op expr.CmpOp) []expr.Any {
	mask := make([]byte, 4)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	network := netip.PrefixFrom(addr, bits).Masked().Addr().As4()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: network[:]},
	}
}
