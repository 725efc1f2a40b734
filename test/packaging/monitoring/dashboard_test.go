// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const conf = "../../../conf"

type grid struct{ H, W, X, Y int }

type dashboard struct {
	UID        string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID         int
		Type       string
		Title      string
		GridPos    grid
		Datasource struct{ UID string }
		Targets    []struct{ Expr, RefID string }
	}
}

func committed(t *testing.T) dashboard {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(conf, "monitoring/dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCommittedFilesAreFresh(t *testing.T) {
	want, err := Dashboard()
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := os.ReadFile(filepath.Join(conf, "monitoring/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"monitoring/dashboard.json":             want,
		"kubernetes/chart/files/dashboard.json": want,
		"kubernetes/chart/files/alerts.yaml":    string(alerts),
	} {
		if got, err := os.ReadFile(filepath.Join(conf, path)); err != nil || string(got) != want {
			t.Errorf("conf/%s is not up to date (%v): run 'make manifests' and commit the result", path, err)
		}
	}
}

// grafana replaces variables with values that parse.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$node", ".*", "$namespace", ".*")

func TestQueriesUseExportedMetrics(t *testing.T) {
	known := exported(t)
	used := map[string]bool{}
	for _, p := range committed(t).Panels {
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q: %d queries of %q", p.Title, len(p.Targets), p.Datasource.UID)
		}
		for _, q := range p.Targets {
			expr := grafana.Replace(q.Expr)
			for _, problem := range problems(expr, known) {
				t.Errorf("panel %q: %s: %s", p.Title, q.Expr, problem)
			}
			if strings.Contains(expr, "$") {
				t.Errorf("panel %q: a variable is left in %s", p.Title, expr)
			}
			for name := range known {
				used[name] = used[name] || regexp.MustCompile(`\b`+name+`\b`).MatchString(expr)
			}
		}
	}
	for name := range known {
		if !used[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func TestPanelsHaveIDsAndPlacesOfTheirOwn(t *testing.T) {
	ids := map[int]string{}
	var placed []grid
	for _, p := range committed(t).Panels {
		if other, twice := ids[p.ID]; twice || p.ID == 0 {
			t.Errorf("panels %q and %q have the id %d", other, p.Title, p.ID)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("panel %q does not fit: %+v", p.Title, g)
		}
		for _, o := range placed {
			if g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
				t.Errorf("panel %q at %+v lies on another at %+v", p.Title, g, o)
			}
		}
		placed = append(placed, g)
	}
}

func TestVariablesUseExportedMetrics(t *testing.T) {
	var names []string
	known := exported(t)
	labelValues := regexp.MustCompile(`^label_values\((.+), ([a-z]+)\)$`)
	for _, v := range committed(t).Templating.List {
		names = append(names, v.Name)
		if v.Type != "query" {
			continue
		}
		m := labelValues.FindStringSubmatch(grafana.Replace(v.Definition))
		if m == nil {
			t.Fatalf("variable %s: %q", v.Name, v.Definition)
		}
		for _, problem := range problems("count by ("+m[2]+") ("+m[1]+")", known) {
			t.Errorf("variable %s: %s", v.Name, problem)
		}
	}
	if want := []string{"datasource", "node", "namespace"}; !slices.Equal(names, want) {
		t.Errorf("variables %v, want %v", names, want)
	}
}
