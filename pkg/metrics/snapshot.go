// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"maps"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// attempts bounds how often a scrape reads again because sockets closed while it read.
const attempts = 3

// traffic is what one endpoint, or one pod, has sent.
type traffic struct {
	redirectedBytes, redirectedMessages, tcpBytes, tcpMessages uint64
}

func (t *traffic) add(o traffic) {
	t.redirectedBytes += o.redirectedBytes
	t.redirectedMessages += o.redirectedMessages
	t.tcpBytes += o.tcpBytes
	t.tcpMessages += o.tcpMessages
}

// atLeast raises each count to that of an earlier scrape.
func (t *traffic) atLeast(o traffic) {
	t.redirectedBytes = max(t.redirectedBytes, o.redirectedBytes)
	t.redirectedMessages = max(t.redirectedMessages, o.redirectedMessages)
	t.tcpBytes = max(t.tcpBytes, o.tcpBytes)
	t.tcpMessages = max(t.tcpMessages, o.tcpMessages)
}

func closed(t datapath.Totals) traffic {
	return traffic{t.RedirectedBytes, t.RedirectedMessages, t.TCPBytes, t.TCPMessages}
}

// pod names the owner of an endpoint; the zero pod owns what belongs to no known pod.
type pod struct{ namespace, name string }

// snapshot is what one scrape found. Maps with keys of uint64 are by netns cookie; 0 is all that is not registered.
type snapshot struct {
	config                datapath.Config
	capacity              map[string]uint32
	guards                []datapath.GuardState
	entries               map[string]int
	accelerated, declined int
	pods                  map[uint64]pod
	totals                map[uint64]datapath.Totals
	traffic               map[uint64]traffic // closed and live sockets
	active                map[uint64]map[datapath.Mode]uint64
}

func readSnapshot(src Source) (s *snapshot, err error) {
	s = &snapshot{pods: map[uint64]pod{}}
	if s.config, err = src.Config(); err != nil {
		return nil, err
	}
	if s.capacity, err = src.Capacity(); err != nil {
		return nil, err
	}
	if s.guards, err = src.GuardStates(); err != nil {
		return nil, err
	}
	registered, err := src.Endpoints()
	if err != nil {
		return nil, err
	}
	attachments, err := src.Attachments()
	if err != nil {
		return nil, err
	}
	for _, a := range attachments {
		if a.Declined != "" {
			s.declined++
		} else {
			s.accelerated++
		}
		if _, ok := registered[a.NetNSCookie]; ok {
			// A record that was cut to its length may end within a character, which Prometheus refuses.
			s.pods[a.NetNSCookie] = pod{strings.ToValidUTF8(a.PodNamespace, ""), strings.ToValidUTF8(a.PodName, "")}
		}
	}
	sockets, err := s.readTraffic(src)
	if err != nil {
		return nil, err
	}
	s.entries = map[string]int{
		datapath.MapSockets: sockets, datapath.MapEndpoints: len(registered), datapath.MapAttachments: len(attachments),
	}
	return s, nil
}

// readTraffic adds live sockets to those that closed. A socket that closes in between would count twice or not at
// all, so it reads until nothing has closed, and else lets such a socket wait for the next scrape.
func (s *snapshot) readTraffic(src Source) (sockets int, err error) {
	for attempt := 1; ; attempt++ {
		if s.totals, err = src.PresentTotals(); err != nil {
			return 0, err
		}
		if sockets, err = s.readLive(src); err != nil {
			return 0, err
		}
		after, err := src.PresentTotals()
		if err != nil {
			return 0, err
		}
		if attempt == attempts || maps.EqualFunc(s.totals, after, sameTraffic) {
			return sockets, nil
		}
	}
}

func sameTraffic(a, b datapath.Totals) bool { return closed(a) == closed(b) }

func (s *snapshot) readLive(src Source) (sockets int, err error) {
	s.traffic = make(map[uint64]traffic, len(s.totals))
	s.active = map[uint64]map[datapath.Mode]uint64{}
	for cookie, sum := range s.totals {
		s.traffic[cookie] = closed(sum)
	}
	err = src.Flows(func(f datapath.Flow) bool {
		sockets++
		cookie := f.NetNS
		if _, ok := s.totals[cookie]; !ok {
			cookie = 0 // where its counts will go when it closes
		}
		sum := s.traffic[cookie]
		sum.add(traffic{f.RedirectedBytes, f.RedirectedMessages, f.TCPBytes, f.TCPMessages})
		s.traffic[cookie] = sum
		if s.active[cookie] == nil {
			s.active[cookie] = map[datapath.Mode]uint64{}
		}
		s.active[cookie][f.Mode]++
		return true
	})
	return sockets, err
}
