// SPDX-License-Identifier: Apache-2.0

package place

import (
	"sync"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// counter reads what a data path has counted. A Datapath is not safe for
// concurrent use, and the places of a site share one.
type counter struct {
	mu sync.Mutex
	d  *datapath.Datapath
}

// guards lists those that run. A nil data path has none.
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

// carried sums the closed and the live sockets of the namespaces. A socket that
// closes in between is missed or counted twice, which no judgement depends on.
func (c *counter) carried(cookies ...uint64) (sum Bytes, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := map[uint64]bool{}
	for _, cookie := range cookies {
		of[cookie] = true
	}
	totals, err := c.d.Totals()
	if err != nil {
		return sum, err
	}
	for cookie := range of {
		sum.Redirected += totals[cookie].RedirectedBytes
		sum.TCP += totals[cookie].TCPBytes
	}
	err = c.d.Flows(func(f datapath.Flow) bool {
		if of[f.NetNS] {
			sum.Redirected += f.RedirectedBytes
			sum.TCP += f.TCPBytes
		}
		return true
	})
	return sum, err
}
