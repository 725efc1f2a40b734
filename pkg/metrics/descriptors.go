// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/prometheus/client_golang/prometheus"

// descriptor is one metric: what it is registered with, and the row of docs/METRICS.md.
type descriptor struct {
	name   string
	kind   prometheus.ValueType
	labels []string
	help   string
}

// Labels that name the pod of an endpoint. Both are empty for sockets of no known pod.
const (
	labelNamespace = "namespace"
	labelPod       = "pod"
)

const labelHazard = "hazard"

var podLabels = []string{labelNamespace, labelPod}

func ofPod(more ...string) []string { return append(more, podLabels...) }

// The metrics, in the order of docs/METRICS.md. Label values are given in the order of the labels.
var (
	redirectedBytes = descriptor{"sockmap_redirected_bytes_total", prometheus.CounterValue, ofPod(),
		"Bytes that went from socket to socket, counted where they were sent."}
	redirectedMessages = descriptor{"sockmap_redirected_messages_total", prometheus.CounterValue, ofPod(),
		"Messages (calls of send) that went from socket to socket."}
	tcpBytes = descriptor{"sockmap_tcp_bytes_total", prometheus.CounterValue, ofPod(),
		"Bytes that sockets of the sockhash sent by TCP, without retransmissions."}
	tcpMessages = descriptor{"sockmap_tcp_messages_total", prometheus.CounterValue, ofPod(),
		"Messages that sockets of the sockhash sent by TCP."}
	flows = descriptor{"sockmap_flows_total", prometheus.CounterValue, ofPod("role", "result"),
		"Connections by what became of them when they were made, once for each end in an endpoint."}
	fallbacks = descriptor{"sockmap_fallback_total", prometheus.CounterValue, ofPod("reason"),
		"How often a socket began to send by TCP, or went back to it, and why."}
	activeFlows = descriptor{"sockmap_active_flows", prometheus.GaugeValue, ofPod("mode"),
		"Live sockets of the sockhash by how they send now, one for each end of a flow."}
	endpoints = descriptor{"sockmap_endpoints", prometheus.GaugeValue, []string{"state"},
		"CNI attachments of this node by whether they are accelerated."}
	hazards = descriptor{"sockmap_hazard", prometheus.GaugeValue, []string{labelHazard, "severity"},
		"1 when this kernel was found to have the hazard at load, guarded or not."}
	hazardsGuarded = descriptor{"sockmap_hazard_guarded", prometheus.GaugeValue, []string{labelHazard},
		"1 when it has it, and a guard cures it."}
	guards = descriptor{"sockmap_guard_active", prometheus.GaugeValue, []string{"guard"},
		"1 when the guard runs, 0 when the kernel refused it or it is switched off, see sockmapctl status."}
	mapEntries = descriptor{"sockmap_map_entries", prometheus.GaugeValue, []string{"map"},
		"Entries in use, of the maps that can fill up."}
	mapMaxEntries = descriptor{"sockmap_map_max_entries", prometheus.GaugeValue, []string{"map"},
		"Entries that these maps have room for."}
	enabled = descriptor{"sockmap_enabled", prometheus.GaugeValue, nil,
		"1 while flows may be redirected, 0 after sockmapctl disable."}
	buildInfo = descriptor{"sockmap_build_info", prometheus.GaugeValue, []string{"version"},
		"Always 1. The version is that of the program that exports."}
	collectionErrors = descriptor{"sockmap_collection_errors_total", prometheus.CounterValue, nil,
		"Scrapes that could not read everything; they have none of the other metrics."}
)

func descriptors() []descriptor {
	return []descriptor{
		redirectedBytes, redirectedMessages, tcpBytes, tcpMessages, flows, fallbacks, activeFlows,
		endpoints, hazards, hazardsGuarded, guards, mapEntries, mapMaxEntries, enabled, buildInfo, collectionErrors,
	}
}

func (d descriptor) desc() *prometheus.Desc {
	return prometheus.NewDesc(d.name, d.help, d.labels, nil)
}
