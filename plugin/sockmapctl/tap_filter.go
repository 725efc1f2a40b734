// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/tap"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
)

// tapNames knows who the network namespaces belong to, and so which ones a tap wants.
type tapNames struct {
	flags *tapFlags
	d     *datapath.Datapath
	own   live.Owners
	read  time.Time
	told  time.Time // when what the kernel follows was read
}

// namesEvery is how old what is known about containers may become.
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

// follow looks for containers that are new, once a second, and has the kernel follow them.
func (n *tapNames) follow(s *tap.Session) error {
	if time.Since(n.read) >= namesEvery {
		if err := n.refresh(); err != nil {
			return err
		}
	}
	if n.told != n.read {
		s.SetFilter(n.kernel())
		n.told = n.read
	}
	return nil
}

// known looks once more at who there is, at most once in namesEvery, when somebody unknown speaks.
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

// kernel is what the verdict can tell by itself: the rest is left to wants.
func (n *tapNames) kernel() datapath.TapFilter {
	f := datapath.TapFilter{NetNSCookie: n.flags.cookie, Port: n.flags.port, WithTCP: n.flags.withTCP, Snap: n.snap()}
	if f.NetNSCookie == 0 && (n.flags.pod != "" || n.flags.namespace != "") {
		if cookies := n.cookies(); len(cookies) == 1 {
			f.NetNSCookie = cookies[0]
		}
	}
	return f
}

// snap is 1 where nobody looks at the bytes.
func (n *tapNames) snap() uint32 {
	if n.flags.file == "" {
		return 1
	}
	return n.flags.snap
}

// cookies are the network namespaces that --pod and --namespace name.
func (n *tapNames) cookies() (found []uint64) {
	for cookie, o := range n.own {
		if n.named(o) {
			found = append(found, cookie)
		}
	}
	return found
}

func (n *tapNames) named(o live.Owner) bool {
	return o.Pod != "" && (n.flags.pod == "" || o.Pod == n.flags.pod) && (n.flags.namespace == "" || o.Namespace == n.flags.namespace)
}

// wants asks everything, what the kernel has been told too: it learns of changes later.
func (n *tapNames) wants(c *datapath.TapChunk) bool {
	f := n.flags
	if f.cookie != 0 && f.cookie != c.NetNSCookie && f.cookie != c.PeerNetNSCookie {
		return false
	}
	if f.port != 0 && f.port != c.Passive.Port() {
		return false
	}
	if f.prefix.IsValid() && !f.prefix.Contains(c.Active.Addr()) && !f.prefix.Contains(c.Passive.Addr()) {
		return false
	}
	if f.pod == "" && f.namespace == "" {
		return true
	}
	n.known(c.NetNSCookie, c.PeerNetNSCookie)
	return n.named(n.own[c.NetNSCookie]) || n.named(n.own[c.PeerNetNSCookie])
}

// waitsFor tells that there is nobody yet of those who are asked for.
func (n *tapNames) waitsFor() string {
	if n.flags.pod == "" && n.flags.namespace == "" || len(n.cookies()) > 0 {
		return ""
	}
	return fmt.Sprintf("(no container with %s yet: waiting for one)", n.flags)
}
