// SPDX-License-Identifier: Apache-2.0

package place

import (
	"maps"
	"slices"
	"sync"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// counter reads the counts of a data path. A Datapath is not safe for concurrent use, and all places of a
// site share one.
type counter struct {
	mu sync.Mutex
	d  *datapath.Datapath
}

// guards lists the running guards. A nil data path has none.
func (c *counter) guards() (names []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.d == nil {
		return nil, nil
	}
	states, err := c.d.GuardStates()
	for _, s := range states {
		if s.Active {
			names = append(names, s.Name)
		}
	}
	return names, err
}

// steer calls f with the data path, if there is one. A nil counter is plain TCP.
func (c *counter) steer(cookie uint64, f func(*datapath.Datapath, uint64) error) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.d == nil {
		return nil
	}
	return f(c.d, cookie)
}

// attempts bounds how often a sum is repeated because sockets have closed meanwhile: such a socket is missed
// or counted twice.
const attempts = 10

// carried sums the closed and the live sockets of network namespaces. The map has the path for each netns
// cookie.
func (c *counter) carried(of map[uint64]string) (sum Bytes, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, err := c.closed(of)
	if err != nil {
		return sum, err
	}
	for range attempts {
		sum = before
		err := c.d.FlowsIn(slices.Collect(maps.Values(of)), func(f datapath.Flow) bool {
			sum.Redirected += f.RedirectedBytes
			sum.TCP += f.TCPBytes
			return true
		})
		if err != nil {
			return sum, err
		}
		after, err := c.closed(of)
		if err != nil || after == before {
			return sum, err
		}
		before = after
	}
	return sum, nil
}

// closed sums the closed sockets.
func (c *counter) closed(of map[uint64]string) (sum Bytes, err error) {
	totals, err := c.d.Totals()
	if err != nil {
		return sum, err
	}
	for cookie := range of {
		sum.Redirected += totals[cookie].RedirectedBytes
		sum.TCP += totals[cookie].TCPBytes
	}
	return sum, nil
}
