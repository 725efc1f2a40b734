// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

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

func (m metric) desc() *prometheus.Desc {
	return prometheus.NewDesc(m.name, m.help, m.labels, nil)
}

// scraped is what the readers of the table read from.
type scraped struct {
	*snapshot     // nil when it could not be read
	pods          map[pod]*podSums
	withoutSeries int // pods
	version       string
	failures      uint64 // scrapes, since the collector exists
}

// series takes the values of one metric. Label values are in the order of its labels.
type series struct {
	desc *prometheus.Desc
	kind kind
	to   chan<- prometheus.Metric
}

func (o series) value(v float64, labels ...string) {
	o.to <- prometheus.MustNewConstMetric(o.desc, o.kind.value(), v, labels...)
}

func (o series) count(n uint64, labels ...string) { o.value(float64(n), labels...) }

func (o series) seconds(d time.Duration, labels ...string) { o.value(d.Seconds(), labels...) }

// flag is 1 or 0.
func (o series) flag(set bool, labels ...string) {
	if set {
		o.value(1, labels...)
		return
	}
	o.value(0, labels...)
}

func (o series) histogram(n uint64, sum float64, buckets map[float64]uint64, labels ...string) {
	o.to <- prometheus.MustNewConstHistogram(o.desc, n, sum, buckets, labels...)
}

// emit reads each metric of the table.
func (s *scraped) emit(to chan<- prometheus.Metric) {
	for _, m := range table {
		if s.snapshot != nil || m.always {
			m.read(s, series{m.desc(), m.kind, to})
		}
	}
}
