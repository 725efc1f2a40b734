// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// drainLook is how often Drain looks whether readers have read.
const drainInterval = 50 * time.Millisecond

// Drain turns the kill switch, for an Unload that follows, and waits until no live socket has redirected bytes that wait for its reader. It
// returns how many have when ctx ends, which is no error: they lose nothing by an Unload, only guards that are
// loaded with the data path no longer watch over how the bytes are read.
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
	// A socket that had nothing waiting once, since the switch was turned, cannot get anything redirected again.
	read := map[socket]bool{}
	for {
		select {
		case <-ctx.Done():
			return left, nil
		case <-time.After(drainInterval): // before the first look, too: a send that began before the switch ends meanwhile
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

// switchOffToUnload leaves word why: whatever becomes of the Unload, nobody has disabled the node.
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

// socket names one live socket.
type socket struct {
	key   datapath.EndKey
	netns uint64
}

// evict makes live connections plain TCP again, as far as they can and this kernel lets it.
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
