// SPDX-License-Identifier: Apache-2.0

// Package metrics exports what the data path counts to Prometheus.
//
// A Collector opens the data path for each scrape and closes it again, so that it follows unloads, loads and
// upgrades. docs/METRICS.md is generated from its table.
package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// Source is what one scrape reads. See Open.
type Source interface {
	Config() (datapath.Config, error)
	Capacity() (map[string]uint32, error)
	GuardStates() ([]datapath.GuardState, error)
	Endpoints() (map[uint64]bool, error)
	Attachments() ([]endpoint.Attachment, error)
	PresentTotals() (map[uint64]datapath.Totals, error)
	Totals() (map[uint64]datapath.Totals, error)
	SocketShares() (map[uint64]int, error)
	Events() (map[datapath.Event]uint64, error)
	Calls() (map[datapath.CallKey]datapath.CallSums, error)
	ProgramRuns() (map[string]datapath.Runs, error)
	Flows(yield func(datapath.Flow) bool) error
	Close() error
}

// opened is the Source of a node.
type opened struct {
	*datapath.Datapath
	node *endpoint.Node
}

// Attachments asks pkg/endpoint, which knows whether an attachment is accelerated.
func (o opened) Attachments() ([]endpoint.Attachment, error) { return o.node.AttachmentsOf(o.Datapath) }

// Open opens what is pinned on a node, for one scrape. The caller closes it.
func Open(node *endpoint.Node) (Source, error) {
	d, err := datapath.Open(node.Dir)
	if err != nil {
		return nil, err
	}
	return opened{d, node}, nil
}

// Collector is a prometheus.Collector. Its methods may be called from several goroutines.
type Collector struct {
	// Open returns the source of one scrape, which the collector closes.
	Open func() (Source, error)
	// Version is the label of sockmap_build_info.
	Version string
	// OfNode adds all counts to the series with empty pod labels, which then never decreases.
	OfNode bool
	// MaxPods bounds how many pods have series of their own. 0: no bound.
	MaxPods int
	// OnError, unless nil, is called with the reason why a scrape is incomplete.
	OnError func(error)

	mu       sync.Mutex
	failures uint64
	// The counts of the last scrape, by netns cookie: counters must not decrease when a socket that was counted
	// alive closes at a bad moment. See snapshot.readTraffic.
	given    map[uint64]traffic
	loadedAt time.Time
	shown    map[pod]bool // pods that had series at the last scrape keep them
}

var _ prometheus.Collector = (*Collector)(nil)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range table {
		ch <- m.desc()
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := scraped{version: c.Version}
	s, err := c.read()
	if err != nil {
		c.failures++
		if c.OnError != nil {
			c.OnError(err)
		}
	} else {
		c.keepGrowing(s)
		now.snapshot, now.pods = s, s.byPod()
		now.withoutSeries = c.bound(now.pods)
	}
	now.failures = c.failures
	now.emit(ch)
}

func (c *Collector) read() (*snapshot, error) {
	src, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return readSnapshot(src, c.OfNode)
}

// bound removes pods beyond MaxPods, and returns how many. Pods that had series before keep them, so that no
// series comes and goes.
func (c *Collector) bound(all map[pod]*podSums) (removed int) {
	order := slices.DeleteFunc(slices.Collect(maps.Keys(all)), func(p pod) bool { return p == noPod })
	slices.SortFunc(order, func(a, b pod) int {
		if c.shown[a] != c.shown[b] {
			if c.shown[a] {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	c.shown = map[pod]bool{}
	for i, p := range order {
		if c.MaxPods > 0 && i >= c.MaxPods {
			delete(all, p)
			removed++
			continue
		}
		c.shown[p] = true
	}
	return removed
}

// keepGrowing raises counts that are less than at the last scrape, unless the maps are new since. The time of
// loading is computed from the clock, so it moves a little.
func (c *Collector) keepGrowing(s *snapshot) {
	sameMaps := s.config.LoadedAt.Sub(c.loadedAt).Abs() < time.Second
	for cookie, now := range s.traffic {
		if sameMaps {
			now.atLeast(c.given[cookie])
		}
		s.traffic[cookie] = now
	}
	c.given, c.loadedAt = s.traffic, s.config.LoadedAt
}
