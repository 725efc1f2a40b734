// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/prometheus/client_golang/prometheus"

// kind is the type of a metric, as docs/METRICS.md names it.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

func (k kind) value() prometheus.ValueType {
	if k == counter {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// descriptor is one metric: what it is registered with, and the row of docs/METRICS.md.
type descriptor struct {
	name   string
	kind   kind
	labels []string
	help   string
}

// Labels that name the pod of an endpoint. Both are empty for sockets of no known pod.
const (
	labelNamespace = "namespace"
	labelPod       = "pod"
)

// Labels of several metrics.
const (
	labelHazard  = "hazard"
	labelGuard   = "guard"
	labelCommand = "command"
)

var podLabels = []string{labelNamespace, labelPod}

func ofPod(more ...string) []string { return append(more, podLabels...) }

// The metrics, in the order of docs/METRICS.md. Label values are given in the order of the labels.
var (
	redirectedBytes = descriptor{"sockmap_redirected_bytes_total", counter, ofPod(),
		"Bytes that went from socket to socket, counted where they were sent."}
	redirectedMessages = descriptor{"sockmap_redirected_messages_total", counter, ofPod(),
		"Messages (calls of send) that went from socket to socket."}
	tcpBytes = descriptor{"sockmap_tcp_bytes_total", counter, ofPod(),
		"Bytes that sockets of the sockhash sent by TCP, without retransmissions."}
	tcpMessages = descriptor{"sockmap_tcp_messages_total", counter, ofPod(),
		"Messages that sockets of the sockhash sent by TCP."}
	flows = descriptor{"sockmap_flows_total", counter, ofPod("role", "result"),
		"Connections by what became of them when they were made, once for each end in an endpoint."}
	fallbacks = descriptor{"sockmap_fallback_total", counter, ofPod("reason"),
		"How often a socket began to send by TCP, or went back to it, and why."}
	activeFlows = descriptor{"sockmap_active_flows", gauge, ofPod("mode"),
		"Live sockets by how they send now, one for each end of a flow; left: out of the sockhash for good, plain TCP."}
	shareSockets = descriptor{"sockmap_share_sockets", gauge, ofPod(),
		"Sockets in the sockhash that count against the pod's share: those of live flows, and dead ones with bytes unread."}
	backlogHigh = descriptor{"sockmap_backlog_high_bytes", gauge, ofPod(),
		"The most that ever waited for one reader of the pod, as the kernel charges it."}
	endpoints = descriptor{"sockmap_attachments", gauge, []string{"state", "reason"},
		"CNI attachments of this node by whether they are accelerated now, and why not; the reason is empty where they are."}
	hazards = descriptor{"sockmap_hazard", gauge, []string{labelHazard, "severity"},
		"1 when this kernel was found to have the hazard at load, guarded or not."}
	hazardsGuarded = descriptor{"sockmap_hazard_guarded", gauge, []string{labelHazard},
		"1 when it has it, and a guard cures it."}
	guards = descriptor{"sockmap_guard_active", gauge, []string{labelGuard},
		"1 when the guard runs, or will before the first container takes part; 0 when the kernel refused it or it is switched off, " +
			"see sockmapctl status."}
	guardActions = descriptor{"sockmap_guard_actions_total", counter, []string{labelGuard, "action"},
		"How often a guard acted, since loading."}
	rendezvousLost = descriptor{"sockmap_rendezvous_lost_total", counter, nil,
		"Connections on TCP because the entry where their ends meet was evicted: maxSockets is too small."}
	flagsLost = descriptor{"sockmap_callbacks_lost_total", counter, nil,
		"Connections whose callbacks were switched off by a sock_ops program of somebody else, see sockmapctl status."}
	readersWoken = descriptor{"sockmap_readers_woken_total", counter, nil,
		"Events for a reader that may have missed one, up to a second late: redirected bytes and bytes by TCP waited together."}
	windowsRefused = descriptor{"sockmap_windows_refused_total", counter, nil,
		"Windows of what may wait for a reader that did not grow, because those of all flows to its pod had used up what they may."}
	cniDuration = descriptor{"sockmap_cni_duration_seconds", histogram, []string{labelCommand},
		"How long the runtime's calls of the plugin took, those that failed too, since loading."}
	cniErrors = descriptor{"sockmap_cni_errors_total", counter, []string{labelCommand, "code", "reported"},
		"Calls of the plugin that met an error, by the code of CNI, since loading."}
	programRuns = descriptor{"sockmap_program_runs_total", counter, []string{"program"},
		"How often a program ran while the kernel counted; only while sysctl kernel.bpf_stats_enabled is 1."}
	programSeconds = descriptor{"sockmap_program_run_seconds_total", counter, []string{"program"},
		"How long these runs took altogether."}
	podsWithoutSeries = descriptor{"sockmap_pods_without_series", gauge, nil,
		"Pods that have no series of their own because of --max-pods."}
	mapEntries = descriptor{"sockmap_map_entries", gauge, []string{"map"},
		"Entries in use, of the maps that can fill up."}
	mapMaxEntries = descriptor{"sockmap_map_max_entries", gauge, []string{"map"},
		"Entries that these maps have room for."}
	enabled = descriptor{"sockmap_enabled", gauge, nil,
		"1 while flows may be redirected, 0 after sockmapctl disable."}
	buildInfo = descriptor{"sockmap_build_info", gauge, []string{"version"},
		"Always 1. The version is that of the program that exports."}
	collectionErrors = descriptor{"sockmap_collection_errors_total", counter, nil,
		"Scrapes that could not read everything; they have none of the other metrics."}
)

func descriptors() []descriptor {
	return []descriptor{
		redirectedBytes, redirectedMessages, tcpBytes, tcpMessages, flows, fallbacks, activeFlows,
		shareSockets, backlogHigh, podsWithoutSeries, endpoints, hazards, hazardsGuarded, guards, guardActions, rendezvousLost,
		flagsLost, readersWoken, windowsRefused, mapEntries, mapMaxEntries, cniDuration, cniErrors, programRuns, programSeconds, enabled, buildInfo,
		collectionErrors,
	}
}

func (d descriptor) desc() *prometheus.Desc {
	return prometheus.NewDesc(d.name, d.help, d.labels, nil)
}
