// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/metrics"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/spf13/cobra"
)

type metricView struct {
	Name   string       `json:"name" doc:"see METRICS.md"`
	Type   string       `json:"type" doc:"counter, gauge or histogram"`
	Help   string       `json:"help" doc:"meaning of the metric"`
	Series []seriesView `json:"series" doc:"one for each set of labels"`
}

type seriesView struct {
	Labels map[string]string `json:"labels" doc:"label values by label name"`
	Value  float64           `json:"value" doc:"exact up to 2^53; for a histogram, the sum"`
	Count  uint64            `json:"count,omitempty" doc:"for a histogram, the number of observations"`
}

// seriesFlags bound the number of series.
type seriesFlags struct {
	perPod  bool
	maxPods int
}

func (f *seriesFlags) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.perPod, "per-pod", true, "series for each pod; false: one sum for the node")
	cmd.Flags().IntVar(&f.maxPods, "max-pods", 1000,
		"`PODS` that have series of their own at most; 0: any number")
}

func (f *seriesFlags) check() error {
	if f.maxPods < 0 {
		return fmt.Errorf("--max-pods: %d is less than 0", f.maxPods)
	}
	return nil
}

func metricsCommand(a *app) *cobra.Command {
	var series seriesFlags
	cmd := a.withOutput(&cobra.Command{
		Use:   "metrics",
		Short: "Print all metrics in the Prometheus text format",
		Long: `Prints all metrics in the Prometheus text format, for the textfile collector of
the node exporter, or to look at. docs/METRICS.md describes them. If something
cannot be read, nothing is printed.`,
		Example: `  sockmapctl metrics
  sockmapctl metrics > sockmap.prom.new && mv sockmap.prom.new /var/lib/node_exporter/sockmap.prom`,
	}, formatText, formatJSON, formatYAML)
	series.flags(cmd)
	before(cmd, series.check)
	return runs(cmd, func(*cobra.Command) error {
		families, err := a.gather(series)
		if err != nil {
			return fmt.Errorf("read metrics: %w", err)
		}
		if a.isDocument() {
			return printList(a, listing[metricView]{kind: "Metric", items: metricViews(families)})
		}
		out := bufio.NewWriter(a.stdout)
		if err := metrics.Write(out, families); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
		return nil
	})
}

func (a *app) gather(f seriesFlags) ([]*dto.MetricFamily, error) {
	var incomplete error
	families, err := a.collector(f, func(err error) { incomplete = err }).Gather()
	if err == nil {
		err = incomplete
	}
	return families, err
}

// collector reads the pinned state again for each scrape.
func (a *app) collector(f seriesFlags, onError func(error)) *metrics.Collector {
	node := a.node(datapath.Settings{})
	return &metrics.Collector{
		Open:    func() (metrics.Source, error) { return metrics.Open(node) },
		Version: version.String(),
		OnError: onError,
		OfNode:  !f.perPod,
		MaxPods: f.maxPods,
	}
}

func metricViews(families []*dto.MetricFamily) []metricView {
	views := make([]metricView, 0, len(families))
	for _, f := range families {
		v := metricView{f.GetName(), strings.ToLower(f.GetType().String()), f.GetHelp(), []seriesView{}}
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			// Only one of them is set; the getters of the others return 0.
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
			v.Series = append(v.Series, seriesView{labels, value, m.GetHistogram().GetSampleCount()})
		}
		views = append(views, v)
	}
	return views
}
