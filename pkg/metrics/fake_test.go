// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"maps"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

var errBroken = errors.New("broken")

// source is a data path in memory. Each read lets step change it, as live sockets do.
type source struct {
	config    datapath.Config
	endpoints map[uint64]bool
	attached  []endpoint.Attachment
	totals    map[uint64]datapath.Totals
	flows     []datapath.Flow
	retired   datapath.Totals // of endpoints that are gone
	step      func()
	reads     int
	failAt    int // which read fails; 0: none
	closed    int
}

func (s *source) read() error {
	s.reads++
	if s.step != nil {
		s.step()
	}
	if s.reads == s.failAt {
		return errBroken
	}
	return nil
}

func (s *source) Config() (datapath.Config, error) { return s.config, s.read() }

func (s *source) Capacity() (map[string]uint32, error) {
	return map[string]uint32{"sockets": s.config.MaxSockets, "endpoints": 16, "attachments": 32}, s.read()
}

func (s *source) GuardStates() ([]datapath.GuardState, error) {
	return []datapath.GuardState{
		{Name: datapath.GuardSplice, Why: "operation not permitted"},
		{Name: datapath.GuardObserve, Why: "operation not permitted"},
		{Name: datapath.GuardOptions, Active: true, Hook: "cgroup/setsockopt"},
	}, s.read()
}

func (s *source) Endpoints() (map[uint64]bool, error) { return s.endpoints, s.read() }

func (s *source) Attachments() ([]endpoint.Attachment, error) { return s.attached, s.read() }

func (s *source) PresentTotals() (map[uint64]datapath.Totals, error) {
	return maps.Clone(s.totals), s.read()
}

func (s *source) Totals() (map[uint64]datapath.Totals, error) {
	all := maps.Clone(s.totals)
	sum := all[0]
	sum.RedirectedBytes += s.retired.RedirectedBytes
	all[0] = sum
	return all, s.read()
}

func (s *source) SocketShares() (map[uint64]int, error) {
	counts := map[uint64]int{0: 0}
	for _, f := range s.flows {
		counts[f.NetNSCookie]++
	}
	return counts, s.read()
}

func (s *source) Events() (map[datapath.Event]uint64, error) {
	return map[datapath.Event]uint64{datapath.EventRendezvousLost: 2, datapath.EventOptionRefused: 7}, s.read()
}

func (s *source) Calls() (map[datapath.CallKey]datapath.CallSums, error) {
	buckets := func(at int, n uint64) []uint64 {
		all := make([]uint64, len(datapath.CallBounds()))
		all[at] = n
		return all
	}
	return map[datapath.CallKey]datapath.CallSums{
		{Command: "ADD"}: {Calls: 10, Total: 30 * time.Millisecond, Buckets: buckets(3, 10)},
		{Command: "ADD", Code: 999, Withheld: true}: {Calls: 2, Total: 20 * time.Second, Buckets: buckets(5, 1)},
		{Command: "CHECK", Code: 11}:                {Calls: 1, Total: time.Millisecond, Buckets: buckets(1, 1)},
	}, s.read()
}

func (s *source) ProgramRuns() (map[string]datapath.Runs, error) {
	return map[string]datapath.Runs{"verdict": {Count: 4, Total: 2 * time.Microsecond}}, s.read()
}

func (s *source) Flows(yield func(datapath.Flow) bool) error {
	for _, f := range s.flows {
		if !yield(f) {
			break
		}
	}
	return s.read()
}

func (s *source) Close() error { s.closed++; return nil }

func (s *source) collector() *Collector {
	return &Collector{Open: func() (Source, error) { return s, nil }, Version: "v1.2.3"}
}

// accelerated is the attachment of a container whose link and endpoint are there.
func accelerated(a datapath.Attachment) endpoint.Attachment {
	return endpoint.Attachment{Attachment: a, LinkAlive: true, Registered: true, Enabled: true}
}

// node has one pod with two sandboxes, a pod with one, a container without a pod, and one that was declined.
func node() *source {
	return &source{
		config: datapath.Config{
			Settings: datapath.Settings{MaxSockets: 1024}, LoadedAt: time.Unix(1000, 0),
			Hazards: uint32(hazard.SetOf("splice", "zerocopy", "eagain")), Guarded: uint32(hazard.SetOf("zerocopy")),
		},
		endpoints: map[uint64]bool{11: true, 12: true, 21: true, 31: false},
		attached: []endpoint.Attachment{
			accelerated(datapath.Attachment{NetNSCookie: 11, PodNamespace: "shop", PodName: "web-0"}),
			accelerated(datapath.Attachment{NetNSCookie: 12, PodNamespace: "shop", PodName: "web-0"}),
			accelerated(datapath.Attachment{NetNSCookie: 21, PodNamespace: "shop", PodName: "db\xff-0"}),
			accelerated(datapath.Attachment{NetNSCookie: 31}),
			{Attachment: datapath.Attachment{
				PodNamespace: "shop", PodName: "old", Declined: "no cgroup2", Reason: decline.Cgroup,
			}},
		},
		totals: map[uint64]datapath.Totals{
			0: {TCPBytes: 7, TCPMessages: 1},
			11: {
				RedirectedBytes: 100, RedirectedMessages: 10, TCPBytes: 20, TCPMessages: 2,
				Flows: map[datapath.Role]map[datapath.Result]uint64{
					datapath.RoleActive: {datapath.ResultJoined: 4, datapath.ResultRemote: 3},
				},
				Fallbacks: map[datapath.Reason]uint64{datapath.ReasonDisabled: 5},
			},
			12: {RedirectedBytes: 1000, Fallbacks: map[datapath.Reason]uint64{datapath.ReasonDisabled: 1}},
			21: {},
			31: {RedirectedBytes: 5, BacklogHigh: 4096},
		},
		flows: []datapath.Flow{
			{NetNSCookie: 11, Mode: datapath.ModeRedirect, RedirectedBytes: 1, RedirectedMessages: 1},
			{NetNSCookie: 12, PeerNetNSCookie: 21, Mode: datapath.ModeTCP, TCPBytes: 3, TCPMessages: 3,
				BacklogHigh: 70000},
			{NetNSCookie: 21, Mode: datapath.ModePending},
			{NetNSCookie: 99, Mode: datapath.ModeRedirect, RedirectedBytes: 50, RedirectedMessages: 5},
		},
	}
}

// scrape gathers everything into one flat map.
func scrape(t *testing.T, c *Collector) map[string]float64 {
	t.Helper()
	families, err := c.Gather()
	if err != nil {
		t.Fatal(err)
	}
	flat := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			flat[seriesName(family.GetName(), m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return flat
}

func seriesName(name string, m *dto.Metric) string {
	for _, l := range m.Label {
		name += " " + l.GetName() + "=" + l.GetValue()
	}
	return name
}
