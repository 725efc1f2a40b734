// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"slices"
	"strconv"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// metric is one row of the table: what is registered, its row in docs/METRICS.md, and how its values are
// read.
type metric struct {
	name   string
	kind   kind
	labels []string
	help   string
	read   func(s *scraped, out series) // gives label values in the order of labels
	always bool                         // read even when the scrape has failed, and s.snapshot is nil
}

// Labels that name the pod of an endpoint. Both are empty for sockets that belong to no known pod.
var podLabels = []string{"namespace", "pod"}

func podLabelsAnd(more ...string) []string { return append(more, podLabels...) }

// table has every metric, in the order of docs/METRICS.md. A new metric is a new row, and its value is in the
// snapshot, in podSums or in something that they have read already.
var table = []metric{
	{
		name: "sockmap_redirected_bytes_total", kind: counter, labels: podLabels,
		help: "Bytes redirected from socket to socket, counted at the sender.",
		read: eachPod(func(p *podSums) uint64 { return p.redirectedBytes }),
	},
	{
		name: "sockmap_redirected_messages_total", kind: counter, labels: podLabels,
		help: "Messages (calls of send) redirected from socket to socket.",
		read: eachPod(func(p *podSums) uint64 { return p.redirectedMessages }),
	},
	{
		name: "sockmap_tcp_bytes_total", kind: counter, labels: podLabels,
		help: "Bytes that sockets in the sockhash sent over TCP, without retransmissions.",
		read: eachPod(func(p *podSums) uint64 { return p.tcpBytes }),
	},
	{
		name: "sockmap_tcp_messages_total", kind: counter, labels: podLabels,
		help: "Messages that sockets in the sockhash sent over TCP.",
		read: eachPod(func(p *podSums) uint64 { return p.tcpMessages }),
	},
	{
		name: "sockmap_flows_total", kind: counter, labels: podLabelsAnd("role", "result"),
		help: "Connections by outcome at establishment, counted once per end in an endpoint of this node.",
		read: readResults,
	},
	{
		name: "sockmap_fallback_total", kind: counter, labels: podLabelsAnd("reason"),
		help: "How often a socket began to send over TCP, or fell back to it, by reason.",
		read: readFallbacks,
	},
	{
		name: "sockmap_active_flows", kind: gauge, labels: podLabelsAnd("mode"),
		help: "Live sockets by mode, two for each connection with both ends on this node; left: out of the " +
			"sockhash for good, plain TCP.",
		read: readActive,
	},
	{
		name: "sockmap_share_sockets", kind: gauge, labels: podLabels,
		help: "Sockets in the sockhash that count against the pod's share: those of live flows, and closed ones " +
			"with unread bytes.",
		read: eachPod(func(p *podSums) uint64 { return p.sockets }),
	},
	{
		name: "sockmap_backlog_high_bytes", kind: gauge, labels: podLabels,
		help: "The most bytes that ever waited for one reader of the pod, as the kernel charges them.",
		read: eachPod(func(p *podSums) uint64 { return p.high }),
	},
	{
		name: "sockmap_pods_without_series", kind: gauge,
		help: "Pods that have no series of their own because of --max-pods.",
		read: func(s *scraped, out series) { out.count(uint64(s.withoutSeries)) },
	},
	{
		name: "sockmap_attachments", kind: gauge, labels: []string{"state", "reason"},
		help: "CNI attachments of this node: accelerated, opted out or declined, with the reason. The reason is " +
			"empty for accelerated ones.",
		read: readAttachments,
	},
	{
		name: "sockmap_hazard", kind: gauge, labels: []string{"hazard", "severity"},
		help: "1 if the probes found the hazard on this kernel at load, guarded or not.",
		read: func(s *scraped, out series) {
			for _, h := range hazard.Table {
				out.flag(s.config.Hazards&uint32(h.Set()) != 0, h.Name, string(h.Severity))
			}
		},
	},
	{
		name: "sockmap_hazard_guarded", kind: gauge, labels: []string{"hazard"},
		help: "1 if the kernel has the hazard and a guard cures it.",
		read: func(s *scraped, out series) {
			for _, h := range hazard.Table {
				out.flag(s.config.Guarded&uint32(h.Set()) != 0, h.Name)
			}
		},
	},
	{
		name: "sockmap_guard_active", kind: gauge, labels: []string{"guard"},
		help: "1 if the guard runs, or will before the first container takes part; 0 if the kernel refused it or " +
			"it is switched off, see sockmapctl status.",
		read: func(s *scraped, out series) {
			for _, g := range s.guards {
				out.flag(g.Active, g.Name)
			}
		},
	},
	{
		name: "sockmap_guard_actions_total", kind: counter, labels: []string{"guard", "action"},
		help: "How often a guard acted since the programs were loaded.",
		read: func(s *scraped, out series) {
			for _, a := range actions {
				out.count(s.events[a.event], a.guard, a.name)
			}
		},
	},
	{
		name: "sockmap_rendezvous_lost_total", kind: counter,
		help: "Connections on TCP because the entry where their ends meet was evicted: maxSockets is too small.",
		read: event(datapath.EventRendezvousLost),
	},
	{
		name: "sockmap_callbacks_lost_total", kind: counter,
		help: "Connections whose callbacks another sock_ops program has switched off, see sockmapctl status.",
		read: event(datapath.EventFlagsLost),
	},
	{
		name: "sockmap_readers_woken_total", kind: counter,
		help: "Extra wake-ups of readers that may have missed one, up to a second late: redirected bytes and " +
			"bytes over TCP waited together.",
		read: event(datapath.EventReaderWoken),
	},
	{
		name: "sockmap_windows_refused_total", kind: counter,
		help: "Flows whose window of bytes that may wait for the reader did not grow, because the windows of all " +
			"flows to its pod had reached their bound.",
		read: event(datapath.EventWindowRefused),
	},
	{
		name: "sockmap_map_entries", kind: gauge, labels: []string{"map"},
		help: "Entries in use, of the maps that can fill up.",
		read: func(s *scraped, out series) {
			for name := range s.capacity {
				out.count(uint64(s.entries[name]), name)
			}
		},
	},
	{
		name: "sockmap_map_max_entries", kind: gauge, labels: []string{"map"},
		help: "Capacity of these maps, in entries.",
		read: func(s *scraped, out series) {
			for name, most := range s.capacity {
				out.count(uint64(most), name)
			}
		},
	},
	{
		name: "sockmap_cni_duration_seconds", kind: histogram, labels: []string{"command"},
		help: "Duration of the runtime's calls of the plugin, failed ones included, since the programs " +
			"were loaded.",
		read: readDurations,
	},
	{
		name: "sockmap_cni_errors_total", kind: counter, labels: []string{"command", "code", "reported"},
		help: "Calls of the plugin that met an error, by CNI error code, since the programs were loaded.",
		read: func(s *scraped, out series) {
			for k, sums := range s.calls {
				if k.Code != 0 {
					out.count(sums.Calls, k.Command, strconv.FormatUint(uint64(k.Code), 10), strconv.FormatBool(!k.Withheld))
				}
			}
		},
	},
	{
		name: "sockmap_program_runs_total", kind: counter, labels: []string{"program"},
		help: "Runs of a program, counted only while sysctl kernel.bpf_stats_enabled is 1.",
		read: func(s *scraped, out series) {
			for name, runs := range s.runs {
				out.count(runs.Count, name)
			}
		},
	},
	{
		name: "sockmap_program_run_seconds_total", kind: counter, labels: []string{"program"},
		help: "Total duration of these runs.",
		read: func(s *scraped, out series) {
			for name, runs := range s.runs {
				out.seconds(runs.Total, name)
			}
		},
	},
	{
		name: "sockmap_enabled", kind: gauge,
		help: "1 while flows may be redirected, 0 after sockmapctl disable.",
		read: func(s *scraped, out series) { out.flag(!s.config.Disabled) },
	},
	{
		name: "sockmap_build_info", kind: gauge, labels: []string{"version"}, always: true,
		help: "Always 1. The version is that of the program that exports.",
		read: func(s *scraped, out series) { out.count(1, s.version) },
	},
	{
		name: "sockmap_collection_errors_total", kind: counter, always: true,
		help: "Scrapes that could not read everything; they have none of the other metrics.",
		read: func(s *scraped, out series) { out.count(s.failures) },
	},
}

// event reads one count of the node.
func event(e datapath.Event) func(*scraped, series) {
	return func(s *scraped, out series) { out.count(s.events[e]) }
}

// eachPod reads one sum of each pod.
func eachPod(sum func(*podSums) uint64) func(*scraped, series) {
	return func(s *scraped, out series) {
		for owner, sums := range s.pods {
			out.count(sum(sums), owner.namespace, owner.name)
		}
	}
}

// readResults gives the series without a pod every value, so that no sum over pods lacks one. A pod's own
// results other than "joined" begin with their first event: most never happen, and there are many pods. So do
// its reasons.
func readResults(s *scraped, out series) {
	for owner, sums := range s.pods {
		for _, role := range datapath.Roles() {
			for _, result := range datapath.Results() {
				n := sums.totals.Flows[role][result]
				if owner == noPod || n > 0 || result == datapath.ResultJoined {
					out.count(n, role.String(), result.String(), owner.namespace, owner.name)
				}
			}
		}
	}
}

func readFallbacks(s *scraped, out series) {
	for owner, sums := range s.pods {
		for _, reason := range datapath.Reasons() {
			if n := sums.totals.Fallbacks[reason]; owner == noPod || n > 0 {
				out.count(n, reason.String(), owner.namespace, owner.name)
			}
		}
	}
}

func readActive(s *scraped, out series) {
	for owner, sums := range s.pods {
		for _, mode := range datapath.Modes() {
			out.count(sums.active[mode], mode.String(), owner.namespace, owner.name)
		}
	}
}

// readAttachments gives each reason that a container can have a series, so that an alert can distinguish
// "none" from "not exported", and in addition those that only a newer version knows.
func readAttachments(s *scraped, out series) {
	out.count(uint64(s.whyNot[decline.None]), decline.None.State(), "")
	for _, r := range decline.OfContainers() {
		out.count(uint64(s.whyNot[r]), r.State(), r.String())
	}
	for r, n := range s.whyNot {
		if r != decline.None && !slices.Contains(decline.OfContainers(), r) {
			out.count(uint64(n), r.State(), r.String())
		}
	}
}

// readDurations gives every command its histogram, so that a rate has a beginning.
func readDurations(s *scraped, out series) {
	bounds := datapath.CallBounds()
	for _, command := range datapath.CallCommands() {
		var (
			calls   uint64
			seconds float64
			within  = make([]uint64, len(bounds))
		)
		for k, sums := range s.calls {
			if k.Command != command {
				continue
			}
			calls += sums.Calls
			seconds += sums.Total.Seconds()
			for i, more := range sums.Buckets {
				within[i] += more
			}
		}
		buckets, sum := map[float64]uint64{}, uint64(0)
		for i, bound := range bounds {
			sum += within[i]
			buckets[bound.Seconds()] = sum
		}
		out.histogram(calls, seconds, buckets, command)
	}
}
