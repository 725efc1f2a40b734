// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are the counters of the agent itself.
type counters struct {
	repairs, failures, reaped, adopted atomic.Uint64
	polling                            atomic.Bool
}

func (c *counters) repair()           { c.repairs.Add(1) }
func (c *counters) failure()          { c.failures.Add(1) }
func (c *counters) reap(n int)        { c.reaped.Add(uint64(n)) }
func (c *counters) adopt()            { c.adopted.Add(1) }
func (c *counters) setPolling(p bool) { c.polling.Store(p) }

// collector exports them.
type collector struct{ *Agent }

var (
	descReady = prometheus.NewDesc("sockmap_agent_ready",
		"1 while /readyz answers 200: each part that counts is as it should be, see --ready-means.", nil, nil)
	descPart = prometheus.NewDesc("sockmap_agent_part_ready",
		"1 while this part is as it should be, whether it counts for sockmap_agent_ready or not.", []string{"part"},
		nil)
	descRepairs = prometheus.NewDesc("sockmap_agent_repairs_total",
		"How often another component undid the installation.", nil, nil)
	descFailures = prometheus.NewDesc("sockmap_agent_failures_total",
		"Steps of the installation that failed; they are tried again.", nil, nil)
	descReaped = prometheus.NewDesc("sockmap_agent_reaped_total",
		"Attachments, links and endpoints removed because their container was gone.", nil, nil)
	descAdopted = prometheus.NewDesc("sockmap_agent_adopted_total",
		"Pods that ran before the installation and were given what their ADD would have, accelerated or not.", nil,
		nil)
	descPods = prometheus.NewDesc("sockmap_pods",
		"Pods of this node that the container runtime knows, by state and by the reason why they are not "+
			"accelerated; the reason is empty if they are.", []string{"state", "reason"}, nil)
	descLooked = prometheus.NewDesc("sockmap_agent_pods_looked_timestamp_seconds",
		"When the agent last saw all pods of this node, in Unix time; 0: never, and there are no series of "+
			"sockmap_pods.", nil, nil)
	descPolling = prometheus.NewDesc("sockmap_agent_polling",
		"1 while directories cannot be watched and are read every few seconds instead.", nil, nil)
)

// Describe sends the descriptions of an agent's own metrics, as a prometheus.Collector does.
func Describe(ch chan<- *prometheus.Desc) { collector{}.Describe(ch) }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descReady, descPart, descRepairs, descFailures, descReaped, descAdopted,
		descPolling, descPods, descLooked} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, on bool, labels ...string) {
		value := 0.0
		if on {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, n *atomic.Uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n.Load()))
	}
	list := c.partStatuses()
	gauge(descReady, ready(list) == nil)
	for _, v := range list {
		gauge(descPart, v.err == nil, v.name)
	}
	count(descRepairs, &c.counters.repairs)
	count(descFailures, &c.counters.failures)
	count(descReaped, &c.counters.reaped)
	count(descAdopted, &c.counters.adopted)
	if c.Pods != nil {
		c.pods(ch)
	}
	gauge(descPolling, c.counters.polling.Load())
}
