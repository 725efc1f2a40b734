// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// drainInterval is the time between two checks of Drain.
const drainInterval = 50 * time.Millisecond

// Drain turns the kill switch on, for an Unload that follows, and waits until no live socket has redirected
// bytes that its reader has not read. If ctx ends first, Drain returns the number of sockets that still have
// such bytes, and no error: an Unload loses none of them, but guards that are unloaded with the programs no
// longer correct how the bytes are read.
func (n *Node) Drain(ctx context.Context) (left int, err error) {
	err = n.switchOffToUnload(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	d, err := datapath.Open(n.Dir)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer d.Close()
	defer func() { err = errors.Join(err, evict(d)) }()
	// A socket that had nothing to read once, after the switch was turned on, gets no more redirected bytes.
	read := map[socket]bool{}
	for {
		select {
		case <-ctx.Done():
			return left, nil
		// Also before the first check: a send that began before the switch ends meanwhile.
		case <-time.After(drainInterval):
		}
		left = 0
		err := d.Flows(func(f datapath.Flow) bool {
			s := socket{f.Key, f.NetNSCookie}
			read[s] = read[s] || f.BacklogBytes == 0
			if !read[s] {
				left++
			}
			return true
		})
		if err != nil || left == 0 {
			return left, err
		}
	}
}

// switchOffToUnload turns the kill switch on and records that an unload did so. If the Unload fails, nobody
// has to think that a user disabled the node.
func (n *Node) switchOffToUnload(ctx context.Context) error {
	s, err := n.beginLoaded(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.step("switch"); err != nil {
		return err
	}
	return s.d.SwitchOffToUnload()
}

// socket identifies one live socket.
type socket struct {
	key   datapath.EndKey
	netns uint64
}

// evict makes live connections plain TCP again, as far as the connections and this kernel allow.
func evict(d *datapath.Datapath) error {
	e, err := d.NewEviction()
	if errors.Is(err, datapath.ErrNotListed) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = e.Run()
	return errors.Join(err, e.Close())
}
