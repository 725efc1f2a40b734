// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

type emitter struct {
	ch    chan<- prometheus.Metric
	descs map[string]*prometheus.Desc
}

func newEmitter(ch chan<- prometheus.Metric) emitter {
	e := emitter{ch, map[string]*prometheus.Desc{}}
	for _, d := range descriptors() {
		e.descs[d.name] = d.desc()
	}
	return e
}

func (e emitter) emit(d descriptor, value uint64, labels ...string) {
	e.emitFloat(d, float64(value), labels...)
}

func (e emitter) emitFloat(d descriptor, value float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(e.descs[d.name], d.kind.value(), value, labels...)
}

func (e emitter) snapshot(s *snapshot, pods map[pod]*podSums) {
	for owner, sum := range pods {
		e.pod(owner, sum)
	}
	e.events(s.events)
	e.calls(s.calls)
	for name, runs := range s.runs {
		e.emit(programRuns, runs.Count, name)
		e.emitFloat(programSeconds, runs.Total.Seconds(), name)
	}
	e.endpoints(s.whyNot)
	for name, room := range s.capacity {
		e.emit(mapEntries, uint64(s.entries[name]), name)
		e.emit(mapMaxEntries, uint64(room), name)
	}
	e.emit(enabled, oneIf(!s.config.Disabled))
	e.hazards(hazard.Set(s.config.Hazards), hazard.Set(s.config.Guarded))
	for _, g := range s.guards {
		e.emit(guards, oneIf(g.Active), g.Name)
	}
}

// endpoints gives each reason that a container can have a series, so that an alert can tell "none" from "not
// exported", and in addition those that only a newer version knows.
func (e emitter) endpoints(whyNot map[decline.Reason]int) {
	e.emit(endpoints, uint64(whyNot[decline.None]), "accelerated", "")
	for _, r := range decline.OfContainers() {
		e.emit(endpoints, uint64(whyNot[r]), "declined", r.String())
	}
	for r, n := range whyNot {
		if r != decline.None && !slices.Contains(decline.OfContainers(), r) {
			e.emit(endpoints, uint64(n), "declined", r.String())
		}
	}
}

// hazards gives each hazard that is known a series, so that an alert can tell "not there" from "not exported".
func (e emitter) hazards(present, guarded hazard.Set) {
	for _, h := range hazard.All() {
		own := hazard.SetOf(h.Name)
		e.emit(hazards, oneIf(present&own != 0), h.Name, string(h.Severity))
		e.emit(hazardsGuarded, oneIf(guarded&own != 0), h.Name)
	}
}

func oneIf(yes bool) uint64 {
	if yes {
		return 1
	}
	return 0
}

// podSums are the sums over the endpoints of one pod.
type podSums struct {
	traffic
	flows     map[datapath.Role]map[datapath.Result]uint64
	fallbacks map[datapath.Reason]uint64
	active    map[datapath.Mode]uint64
	high      uint64 // the greatest of all readers
	sockets   uint64 // that count against shares
}

func newPodSums() *podSums {
	sum := &podSums{
		flows:     map[datapath.Role]map[datapath.Result]uint64{},
		fallbacks: map[datapath.Reason]uint64{},
		active:    map[datapath.Mode]uint64{},
	}
	for _, role := range datapath.Roles() {
		sum.flows[role] = map[datapath.Result]uint64{}
	}
	return sum
}

// byPod adds up what belongs to one pod. The zero pod is always there.
func (s *snapshot) byPod() map[pod]*podSums {
	all := map[pod]*podSums{{}: newPodSums()}
	for cookie, t := range s.traffic {
		owner := s.pods[cookie]
		sum := all[owner]
		if sum == nil {
			sum = newPodSums()
			all[owner] = sum
		}
		sum.traffic.add(t)
		sum.high = max(sum.high, s.backlogHigh[cookie])
		sum.sockets += uint64(max(s.shares[cookie], 0))
		for role, results := range s.totals[cookie].Flows {
			for result, n := range results {
				sum.flows[role][result] += n
			}
		}
		for reason, n := range s.totals[cookie].Fallbacks {
			sum.fallbacks[reason] += n
		}
		for mode, n := range s.active[cookie] {
			sum.active[mode] += n
		}
	}
	return all
}

// pod gives the zero pod every value of every label, so that no sum over pods lacks one. A pod's own results other
// than "joined", and its reasons, come with their first event: most never happen, and there are many pods.
func (e emitter) pod(owner pod, sum *podSums) {
	all := owner == pod{}
	names := []string{owner.namespace, owner.name}
	with := func(values ...string) []string { return append(values, names...) }

	e.emit(redirectedBytes, sum.redirectedBytes, names...)
	e.emit(redirectedMessages, sum.redirectedMessages, names...)
	e.emit(tcpBytes, sum.tcpBytes, names...)
	e.emit(tcpMessages, sum.tcpMessages, names...)
	e.emit(shareSockets, sum.sockets, names...)
	e.emit(backlogHigh, sum.high, names...)
	for _, role := range datapath.Roles() {
		for _, result := range datapath.Results() {
			if n := sum.flows[role][result]; all || n > 0 || result == datapath.ResultJoined {
				e.emit(flows, n, with(role.String(), result.String())...)
			}
		}
	}
	for _, reason := range datapath.Reasons() {
		if n := sum.fallbacks[reason]; all || n > 0 {
			e.emit(fallbacks, n, with(reason.String())...)
		}
	}
	for _, mode := range datapath.Modes() {
		e.emit(activeFlows, sum.active[mode], with(mode.String())...)
	}
}
