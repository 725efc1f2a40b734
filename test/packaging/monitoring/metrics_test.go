// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/sockmap-cni/sockmap-cni/pkg/agent"
	"github.com/sockmap-cni/sockmap-cni/pkg/metrics"
)

// Labels that the scrape adds. up is Prometheus's own metric.
var (
	scrapeLabels = []string{"instance", "job", "node"}
	foreign      = map[string][]string{"up": nil}
)

var description = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// exported asks the exporter itself for its metrics: labels by name.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		agent.Describe(ch)
		(&metrics.Collector{Open: func() (metrics.Source, error) {
			return nil, errors.New("not asked to collect")
		}}).Describe(ch)
	}()
	// A description has no type. METRICS.md, which is written from the same table, has it.
	documented, err := os.ReadFile(filepath.Join(conf, "../docs/METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for d := range ch {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		has := strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
		if !strings.Contains(string(documented), "| `"+m[1]+"` | histogram |") {
			all[m[1]] = has
			continue
		}
		all[m[1]+"_count"], all[m[1]+"_sum"], all[m[1]+"_bucket"] = has, has, append(slices.Clone(has), "le")
	}
	if len(all) < 10 || !slices.Contains(all["sockmap_flows_total"], "result") {
		t.Fatalf("the exporter describes only %v", all)
	}
	return all
}

var parse = parser.NewParser(parser.Options{})

// problems of an expression: a syntax error, a metric that is not exported, a rate of a gauge, a label that
// no series has.
func problems(expr string, known map[string][]string) (all []string) {
	e, err := parse.ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	selectors := 0
	parser.Inspect(e, func(n parser.Node, path []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			selectors++
			all = append(all, selectorProblems(n, known)...)
		case *parser.Call:
			all = append(all, callProblems(n)...)
		case *parser.AggregateExpr:
			all = append(all, groupingProblems(n, known)...)
		}
		return nil
	})
	if selectors == 0 {
		all = append(all, "no metric in it")
	}
	return all
}

func selectorProblems(s *parser.VectorSelector, known map[string][]string) (all []string) {
	has, ok := known[s.Name]
	if _, theirs := foreign[s.Name]; !ok && !theirs {
		return []string{fmt.Sprintf("%s is not exported", s.Name)}
	}
	for _, m := range s.LabelMatchers {
		if m.Name != model.MetricNameLabel && !slices.Contains(has, m.Name) &&
			!slices.Contains(scrapeLabels, m.Name) {
			all = append(all, fmt.Sprintf("%s has no label %s", s.Name, m.Name))
		}
	}
	return all
}

func callProblems(c *parser.Call) []string {
	if c.Func.Name != "rate" && c.Func.Name != "increase" {
		return nil
	}
	name := c.Args[0].(*parser.MatrixSelector).VectorSelector.(*parser.VectorSelector).Name
	grows := func(suffix string) bool { return strings.HasSuffix(name, suffix) }
	if !slices.ContainsFunc([]string{"_total", "_bucket", "_sum", "_count"}, grows) {
		return []string{fmt.Sprintf("%s of %s, which is no counter", c.Func.Name, name)}
	}
	return nil
}

// groupingProblems checks the labels of a sum: each must be a label of one of its metrics.
func groupingProblems(a *parser.AggregateExpr, known map[string][]string) (all []string) {
	var has []string
	parser.Inspect(a.Expr, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			has = append(has, known[s.Name]...)
		}
		return nil
	})
	for _, l := range a.Grouping {
		if !slices.Contains(has, l) && !slices.Contains(scrapeLabels, l) {
			all = append(all, fmt.Sprintf("by %s, which no metric in it has", l))
		}
	}
	return all
}

func TestProblemsAreFound(t *testing.T) {
	known := exported(t)
	for expr, want := range map[string]string{
		"sockmap_enabled == 0":                            "",
		"sum by (mode) (sockmap_active_flows)":            "",
		"sockmap_enabled ==":                              "parse error",
		"sockmap_is_on == 0":                              "sockmap_is_on is not exported",
		`sockmap_attachments{stat="declined"}`:            "no label stat",
		"rate(sockmap_active_flows[5m])":                  "no counter",
		"sum by (reason) (rate(sockmap_flows_total[5m]))": "by reason",
		"1 + 1": "no metric",
	} {
		got := strings.Join(problems(expr, known), "; ")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}
