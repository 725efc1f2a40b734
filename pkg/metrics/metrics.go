// SPDX-License-Identifier: Apache-2.0

// Package metrics exports what the data path counts to Prometheus.
//
// A Collector opens the data path for each scrape and closes it again, so that it follows unloads, loads and
// upgrades. docs/METRICS.md is generated from its descriptors.
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
	Records() ([]endpoint.Attachment, error)
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

// Records is for Source: whether one is accelerated is for pkg/endpoint to say.
func (o opened) Records() ([]endpoint.Attachment, error) { return o.node.AttachmentsOf(o.Datapath) }

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
	// OfNode leaves pods out: all that they count is in the series of no known pod, which then never falls.
	OfNode bool
	// MaxPods bounds how many pods have series of their own. 0: as many as there are.
	MaxPods int
	// OnError, unless nil, is told why a scrape is incomplete.
	OnError func(error)

	mu       sync.Mutex
	failures uint64
	// What the last scrape gave, by netns cookie: counters must not go back when a socket that was counted alive
	// closes at a bad moment. See snapshot.readTraffic.
	given    map[uint64]traffic
	loadedAt time.Time
	shown    map[pod]bool // pods that had series at the last scrape keep them
}

var _ prometheus.Collector = (*Collector)(nil)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descriptors() {
		ch <- d.desc()
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := newEmitter(ch)
	s, err := c.read()
	if err != nil {
		c.failures++
		if c.OnError != nil {
			c.OnError(err)
		}
	} else {
		c.keepGrowing(s)
		pods := s.byPod()
		e.emit(podsWithoutSeries, uint64(c.bound(pods)))
		e.snapshot(s, pods)
	}
	e.emit(buildInfo, 1, c.Version)
	e.emit(collectionErrors, c.failures)
}

func (c *Collector) read() (*snapshot, error) {
	src, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return readSnapshot(src, c.OfNode)
}

// bound takes pods beyond MaxPods away, and returns how many. Those that had series before stay, so that none comes and goes.
func (c *Collector) bound(all map[pod]*podSums) (left int) {
	order := slices.DeleteFunc(slices.Collect(maps.Keys(all)), func(p pod) bool { return p == pod{} })
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
			left++
			continue
		}
		c.shown[p] = true
	}
	return left
}

// keepGrowing raises what is less than at the last scrape, unless the maps were made anew since. The time of
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
