// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
)

// podState is a pair of labels of sockmap_pods.
type podState struct{ state, reason string }

// countPods returns a number for each possible state and reason, so that an alert can tell "none" from "not
// exported".
func countPods(stood []adopt.PodStatus) map[podState]int {
	counts := map[podState]int{}
	for state, reasons := range adopt.Reasons() {
		for _, reason := range reasons {
			counts[podState{string(state), reason}] = 0
		}
	}
	for _, s := range stood {
		counts[podState{string(s.State), s.Reason}]++
	}
	return counts
}

func (c collector) pods(ch chan<- prometheus.Metric) {
	stood, looked := c.keeper.lastStatuses()
	seconds := 0.0
	if !looked.IsZero() {
		seconds = float64(looked.UnixMilli()) / 1000
		for s, n := range countPods(stood) {
			ch <- prometheus.MustNewConstMetric(descPods, prometheus.GaugeValue, float64(n), s.state, s.reason)
		}
	}
	ch <- prometheus.MustNewConstMetric(descLooked, prometheus.GaugeValue, seconds)
}
