// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// masquerade hides the containers' addresses from everybody but each other, as ipMasq of the plugin bridge
// does: connections are tracked, and of each the first packet is looked at.
func masquerade() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := c.AddTable(&nftables.Table{Name: bridgeName, Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	for _, container := range []netip.Prefix{clientAddr, serverAddr} {
		rule := append(isAddr(sourceOffset, container.Addr(), 32, expr.CmpOpEq),
			isAddr(destinationOffset, nodeAddr.Addr(), nodeAddr.Bits(), expr.CmpOpNeq)...)
		rule = append(rule, isAddr(destinationOffset, netip.MustParseAddr("224.0.0.0"), 4, expr.CmpOpNeq)...)
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(rule, &expr.Masq{})})
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
