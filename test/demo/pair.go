// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// pair is a client and a server container of one network.
type pair struct {
	client, server *lab.Pod
	running        *lab.Server
	direct         string // address of the server
	service        string // a service address that leads to it by DNAT
}

// newPair makes the network `name`: the conflist of conf/, with or without its sockmap entry.
func newPair(ctx context.Context, node *lab.Node, name string, index byte) (*pair, error) {
	network := lab.Network{
		Name:    name,
		Bridge:  "br-" + name,
		Subnets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 62, index, 0}), 24)},
		// See hazards.go.
		Set: map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	}
	if name != "sockmap" {
		network.Without = []string{"sockmap"}
	}
	conflist, err := node.Conflist(network)
	if err != nil {
		return nil, err
	}
	p := &pair{}
	for role, pod := range map[string]**lab.Pod{"client": &p.client, "server": &p.server} {
		*pod, err = node.NewPod(ctx, lab.PodSpec{Namespace: "demo", Name: name + "-" + role, Conflist: conflist})
		if err != nil {
			return nil, err
		}
	}
	return p, p.serve(ctx, node, index)
}

func (p *pair) serve(ctx context.Context, node *lab.Node, index byte) (err error) {
	backend := netip.AddrPortFrom(p.server.IP4(), 8080)
	if p.running, err = p.server.Serve(ctx, backend.String(), cpu); err != nil {
		return err
	}
	vip := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, index + 1}), 80)
	if err := node.Service(vip, backend); err != nil {
		return fmt.Errorf("service %s: %w", vip, err)
	}
	p.direct, p.service = backend.String(), vip.String()
	return nil
}
