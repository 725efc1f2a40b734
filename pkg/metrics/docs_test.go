// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
)

// documented is a row of the table in METRICS.md.
type documented struct{ Name, Kind, Labels, Help string }

func TestMetricsAreDocumented(t *testing.T) {
	var rows []documented
	for _, m := range table {
		labels := ""
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		rows = append(rows, documented{m.name, string(m.kind), labels, m.help})
	}
	var text strings.Builder
	err := template.Must(template.ParseFiles("METRICS.md.tmpl")).Execute(&text, map[string]any{
		"Metrics": rows, "Labels": labelTable(), "WhyNot": decline.All(),
	})
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, filepath.Join("..", "..", "docs", "METRICS.md"), text.String())
}

func names[T fmt.Stringer](values []T) []string {
	var all []string
	for _, v := range values {
		all = append(all, v.String())
	}
	return all
}

// The tables of other packages are complete by their own tests.
func TestEveryLabelValueIsExplained(t *testing.T) {
	for _, l := range labelTable() {
		var got []string
		for _, v := range l.Values {
			got = append(got, v.Value)
			if v.Meaning == "" {
				t.Errorf("%s %q has no meaning", l.Name, v.Value)
			}
		}
		want := map[string][]string{
			"role": names(datapath.Roles()), "mode": names(datapath.Modes()), "program": datapath.Programs(),
			"guard": datapath.Guards,
		}[l.Name]
		if want != nil && !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %q are explained, %q exist", l.Name, got, want)
		}
	}
}
