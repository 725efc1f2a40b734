// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"maps"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// attempts bounds how often a scrape reads again because sockets closed while it read.
const attempts = 3

// traffic counts what one endpoint, or one pod, has sent.
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

// pod names the owner of an endpoint.
type pod struct{ namespace, name string }

// noPod owns the counts that belong to no known pod.
var noPod pod

// unregistered is the key of the sums of sockets without a registered endpoint.
const unregistered = 0

// snapshot is what one scrape has read. Maps with keys of uint64 are by netns cookie, or unregistered.
type snapshot struct {
	config      datapath.Config
	capacity    map[string]uint32
	guards      []datapath.GuardState
	entries     map[string]int
	whyNot      map[decline.Reason]int // attachments; accelerated ones have decline.None
	owners      map[uint64]pod
	totals      map[uint64]datapath.Totals
	traffic     map[uint64]traffic // closed and live sockets
	active      map[uint64]map[datapath.Mode]uint64
	backlogHigh map[uint64]uint64 // of readers
	shares      map[uint64]int    // sockets
	events      map[datapath.Event]uint64
	calls       map[datapath.CallKey]datapath.CallSums
	runs        map[string]datapath.Runs
}

// readSnapshot reads everything. With ofNode, all sums belong to noPod, those of endpoints that are gone
// included.
func readSnapshot(src Source, ofNode bool) (s *snapshot, err error) {
	s = &snapshot{owners: map[uint64]pod{}, whyNot: map[decline.Reason]int{}}
	if err := s.readNode(src); err != nil {
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
	s.name(attachments, registered, ofNode)
	totals := src.PresentTotals
	if ofNode {
		totals = src.Totals
	}
	sockets, err := s.readTraffic(src, totals)
	if err != nil {
		return nil, err
	}
	s.entries = map[string]int{
		datapath.MapSockets: sockets, datapath.MapEndpoints: len(registered),
		datapath.MapAttachments: len(attachments),
	}
	return s, nil
}

// readNode reads the facts of the node.
func (s *snapshot) readNode(src Source) (err error) {
	if s.config, err = src.Config(); err != nil {
		return err
	}
	if s.capacity, err = src.Capacity(); err != nil {
		return err
	}
	if s.guards, err = src.GuardStates(); err != nil {
		return err
	}
	if s.shares, err = src.SocketShares(); err != nil {
		return err
	}
	if s.events, err = src.Events(); err != nil {
		return err
	}
	if s.calls, err = src.Calls(); err != nil {
		return err
	}
	s.runs, err = src.ProgramRuns()
	return err
}

// name counts attachments, and finds the pods of registered endpoints unless ofNode is set.
func (s *snapshot) name(attachments []endpoint.Attachment, registered map[uint64]bool, ofNode bool) {
	for _, r := range attachments {
		s.whyNot[r.WhyNot()]++
		if _, ok := registered[r.NetNSCookie]; ok && !ofNode {
			// A name that was cut to its field may end within a character, which Prometheus refuses.
			s.owners[r.NetNSCookie] = pod{strings.ToValidUTF8(r.PodNamespace, ""), strings.ToValidUTF8(r.PodName, "")}
		}
	}
}

// readTraffic adds the counts of live sockets to the totals, which have those of closed sockets. A socket
// that closes between the two reads would count twice or not at all. So it reads again until nothing has
// closed meanwhile, at most attempts times.
func (s *snapshot) readTraffic(src Source,
	totals func() (map[uint64]datapath.Totals, error)) (sockets int, err error) {
	for attempt := 1; ; attempt++ {
		if s.totals, err = totals(); err != nil {
			return 0, err
		}
		if sockets, err = s.readLive(src); err != nil {
			return 0, err
		}
		after, err := totals()
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
	s.backlogHigh = make(map[uint64]uint64, len(s.totals))
	for cookie, sum := range s.totals {
		s.traffic[cookie] = closed(sum)
		s.backlogHigh[cookie] = sum.BacklogHigh
	}
	err = src.Flows(func(f datapath.Flow) bool {
		if !f.Left {
			sockets++
		}
		cookie, reader := s.totalsKey(f.NetNSCookie), s.totalsKey(f.PeerNetNSCookie)
		s.backlogHigh[reader] = max(s.backlogHigh[reader], uint64(f.BacklogHigh))
		sum := s.traffic[cookie]
		sum.add(traffic{f.RedirectedBytes, f.RedirectedMessages, f.TCPBytes, f.TCPMessages})
		s.traffic[cookie] = sum
		if s.active[cookie] == nil {
			s.active[cookie] = map[datapath.Mode]uint64{}
		}
		s.active[cookie][f.Now()]++
		return true
	})
	return sockets, err
}

// totalsKey is the key under which the counts of a socket are added to the totals when it closes.
func (s *snapshot) totalsKey(netnsCookie uint64) uint64 {
	if _, ok := s.totals[netnsCookie]; !ok {
		return unregistered
	}
	return netnsCookie
}
