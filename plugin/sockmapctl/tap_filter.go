// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/tap"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
)

// tapNames maps network namespaces to their containers, and so knows which ones the tap's filter names.
type tapNames struct {
	flags *tapFlags
	d     *datapath.Datapath
	own   live.Owners
	read  time.Time
	set   time.Time // when the list that the filter in the kernel is made from was read
}

// namesEvery is the maximum age of the list of containers.
const namesEvery = time.Second

func newTapNames(dir string, f *tapFlags) (*tapNames, error) {
	d, err := datapath.Open(dir)
	if err != nil {
		return nil, err
	}
	n := &tapNames{flags: f, d: d}
	if err := n.refresh(); err != nil {
		d.Close()
		return nil, err
	}
	return n, nil
}

func (n *tapNames) refresh() (err error) {
	n.own, err = live.ReadOwners(n.d)
	n.read = time.Now()
	return err
}

// follow looks for new containers once a second, and updates the filter in the kernel.
func (n *tapNames) follow(s *tap.Session) error {
	if time.Since(n.read) >= namesEvery {
		if err := n.refresh(); err != nil {
			return err
		}
	}
	if n.set != n.read {
		s.SetFilter(n.kernel())
		n.set = n.read
	}
	return nil
}

// known reads the list of containers again for an unknown cookie, at most once in namesEvery.
func (n *tapNames) known(cookies ...uint64) {
	for _, c := range cookies {
		if _, ok := n.own[c]; !ok && c != 0 && time.Since(n.read) >= namesEvery {
			_ = n.refresh() // the names are then those of before
			return
		}
	}
}

func (n *tapNames) label(cookie uint64) string {
	n.known(cookie)
	return n.own.Label(cookie)
}

// kernel is the part of the filter that the verdict applies: one network namespace and one port. wants
// applies the rest to messages that were copied already.
func (n *tapNames) kernel() datapath.TapFilter {
	filter := &n.flags.filter
	f := datapath.TapFilter{
		NetNSCookie: filter.OnlyNetNS(), Port: filter.OnlyPort(), WithTCP: n.flags.withTCP, Snap: n.snap(),
	}
	if f.NetNSCookie == 0 && filter.NamesOwners() {
		if cookies := n.cookies(); len(cookies) == 1 {
			f.NetNSCookie = cookies[0]
		}
	}
	return f
}

// snap is 1 if the output does not have the bytes.
func (n *tapNames) snap() uint32 {
	if n.flags.file == "" {
		return 1
	}
	return n.flags.snap
}

// cookies are the netns cookies of the known containers that the filter names.
func (n *tapNames) cookies() (found []uint64) {
	for cookie := range n.own {
		if end := n.own.End(cookie); n.flags.filter.OwnerFits(&end) {
			found = append(found, cookie)
		}
	}
	return found
}

// wants applies the whole filter, because the filter in the kernel is updated later.
func (n *tapNames) wants(c *datapath.TapChunk) bool {
	if n.flags.filter.NamesOwners() {
		n.known(c.NetNSCookie, c.PeerNetNSCookie)
	}
	s := live.Subject{Ends: [2]live.End{n.own.End(c.NetNSCookie), n.own.End(c.PeerNetNSCookie)},
		Port: c.Passive.Port()}
	s.Ends[0].Address, s.Ends[1].Address = c.Active.Addr(), c.Passive.Addr()
	if c.Role == datapath.RolePassive {
		s.Ends[0].Address, s.Ends[1].Address = s.Ends[1].Address, s.Ends[0].Address
	}
	return n.flags.filter.Fits(&s)
}

// waitsFor is a notice that none of the requested containers exists yet; empty if one does.
func (n *tapNames) waitsFor() string {
	filter := &n.flags.filter
	if !filter.NamesOwners() || filter.OnlyNetNS() != 0 || len(n.cookies()) > 0 {
		return ""
	}
	return fmt.Sprintf("(no container with %s yet: waiting for one)", n.flags)
}
