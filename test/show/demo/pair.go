// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// pair is a client and a server container of one network.
type pair struct {
	client, server    *lab.Pod
	asking, answering *wire.Agent
	direct            netip.AddrPort // address of the server
	service           netip.AddrPort // a service address that is translated to it by DNAT
	index             byte
}

// newPair makes the network `name`: the conflist of conf/, with or without its sockmap entry.
func newPair(ctx context.Context, node *lab.Node, name string, index byte) (*pair, error) {
	subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 62, index, 0}), 24)
	network := lab.Network{
		Name:    name,
		Bridge:  "br-" + name,
		Subnets: []netip.Prefix{subnet},
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
	p := &pair{index: index}
	for role, pod := range map[string]**lab.Pod{"client": &p.client, "server": &p.server} {
		*pod, err = node.NewPod(ctx, lab.PodSpec{Namespace: "demo", Name: name + "-" + role, Conflist: conflist})
		if err != nil {
			return nil, err
		}
	}
	if err := pods.Masquerade(node, name, subnet, p.client, p.server); err != nil {
		return nil, err
	}
	return p, p.start(ctx, node)
}

// start starts the two ends that are measured.
func (p *pair) start(ctx context.Context, node *lab.Node) (err error) {
	p.direct, p.service = netip.AddrPortFrom(p.server.IP4(), measuredPort), service(p.index, 81)
	if err := node.Service(p.service, p.direct); err != nil {
		return fmt.Errorf("service %s: %w", p.service, err)
	}
	if p.asking, err = wire.Start(ctx, "client", p.client); err != nil {
		return err
	}
	p.answering, err = wire.Start(ctx, "server", p.server)
	return err
}

func (p *pair) stop() {
	for _, a := range []*wire.Agent{p.asking, p.answering} {
		if a != nil {
			a.Stop()
		}
	}
}

const (
	checkedStream   = 32 << 20
	checkedRequests = 2000
)

// check compares each byte of requests, answers and a stream, directly and through a service address. It does
// not run during the measurement, because making and comparing content takes longer than moving it.
func (p *pair) check(ctx context.Context, node *lab.Node) (err error) {
	backend, vip := netip.AddrPortFrom(p.server.IP4(), checkedPort), service(p.index, 80)
	running, err := p.server.Serve(ctx, backend.String(), cpu)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, running.Close()) }()
	if err := node.Service(vip, backend); err != nil {
		return fmt.Errorf("service %s: %w", vip, err)
	}
	for _, addr := range []netip.AddrPort{backend, vip} {
		r, err := p.client.Measure(ctx, "stream", addr.String(), cpu, "-size", "65536", "-bytes",
			strconv.Itoa(checkedStream))
		if err == nil && (r.Transfer == nil || r.Transfer.Bytes != checkedStream || !r.Checked) {
			err = fmt.Errorf("the stream to %s did not arrive whole: %+v", addr, r)
		}
		if err != nil {
			return err
		}
		if _, err := p.client.Measure(ctx, "rr", addr.String(), cpu, "-size", "64", "-warmup", "0",
			"-count", strconv.Itoa(checkedRequests)); err != nil {
			return err
		}
	}
	return nil
}
