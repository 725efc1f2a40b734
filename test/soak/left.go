// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// maxSockets is small: counts of sockets are corrected when they are wrong by more than a 256th of it.
const maxSockets, toleratedDrift = 1024, maxSockets / 256

// drained waits until no state is left of the sockets, which are all closed.
func drained(ctx context.Context, node *lab.Node, c *changer) error {
	const patience = 30 * time.Second
	for start := time.Now(); ; {
		if err := c.round(ctx); err != nil {
			return err
		}
		left, err := whatIsLeft(node)
		if err != nil || left == nil {
			return err
		}
		if time.Since(start) > patience || !sleep(ctx, time.Second) {
			return fmt.Errorf("all sockets are closed, but %w", left)
		}
	}
}

// share is struct share of bpf/abi.h.
type share struct {
	Sockets int32
	_       uint32
	Granted int64
	_       [2]uint64
}

func whatIsLeft(node *lab.Node) (left, err error) {
	d, err := datapath.Open(node.BPFFS())
	if err != nil {
		return nil, err
	}
	defer d.Close()
	state := filepath.Join(d.Dir(), fmt.Sprintf("v%d", datapath.ABI))
	sockets, err := entries(filepath.Join(state, "sockets"))
	if err != nil {
		return nil, err
	}
	if sockets > 0 {
		left = errors.Join(left, fmt.Errorf("%d are in the sockhash", sockets))
	}
	shares, err := ebpf.LoadPinnedMap(filepath.Join(state, "shares"), nil)
	if err != nil {
		return nil, fmt.Errorf("open shares: %w", err)
	}
	defer shares.Close()
	var cookie uint64
	var s share
	it := shares.Iterate()
	for it.Next(&cookie, &s) {
		if max(s.Sockets, -s.Sockets) > toleratedDrift || s.Granted != 0 {
			left = errors.Join(left, fmt.Errorf("the share of %d has %d sockets and %d bytes", cookie, s.Sockets,
				s.Granted))
		}
	}
	return left, it.Err()
}

// entries counts the entries of a pinned map that no other process removes.
func entries(path string) (n int, err error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return 0, fmt.Errorf("open map: %w", err)
	}
	defer m.Close()
	var key []byte
	for {
		var at any
		if key != nil {
			at = key
		}
		if key, err = m.NextKeyBytes(at); err != nil || key == nil {
			return n, err
		}
		n++
	}
}
