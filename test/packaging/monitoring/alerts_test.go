// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

func alerts(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(filepath.Join(conf, "monitoring/alerts.yaml"), false, model.UTF8Validation,
		parse, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Fatal(err)
	}
	all := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if _, twice := all[r.Alert]; twice || r.Alert == "" {
				t.Fatalf("two rules, or one without a name: %q", r.Alert)
			}
			all[r.Alert] = r
		}
	}
	return all
}

func TestAlertsUseExportedMetrics(t *testing.T) {
	known := exported(t)
	for name, r := range alerts(t) {
		for _, problem := range problems(r.Expr, known) {
			t.Errorf("%s: %s", name, problem)
		}
		if s := r.Labels["severity"]; s != "info" && s != "warning" {
			t.Errorf("%s: severity %q: no fault of sockmap is urgent enough to wake a person", name, s)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.For == 0 {
			t.Errorf("%s: summary, description or for is missing", name)
		}
	}
}

// Series of one minute each; x N means N more of the same. ok is a node without problems.
const (
	node = `instance="a:9469",node="a"`
	ok   = `
  up{job="kube-system/sockmap-cni",NODE} 1x3000
  sockmap_collection_errors_total{NODE} 7x3000
  sockmap_attachments{state="accelerated",reason="",NODE} 9x3000
  sockmap_attachments{state="declined",reason="hazards",NODE} 1x3000
  sockmap_attachments{state="opted-out",reason="opted-out",NODE} 1x3000
  sockmap_hazard{hazard="splice",severity="severe",NODE} 1x3000
  sockmap_hazard_guarded{hazard="splice",NODE} 1x3000
  sockmap_hazard{hazard="eagain",severity="severe",NODE} 1x3000
  sockmap_hazard_guarded{hazard="eagain",NODE} 1x3000
  sockmap_guard_active{guard="splice",NODE} 1x3000
  sockmap_guard_active{guard="options",NODE} 0x3000
  sockmap_enabled{NODE} 1x3000
  sockmap_map_entries{map="sockets",NODE} 800x3000
  sockmap_map_max_entries{map="sockets",NODE} 1000x3000
  sockmap_flows_total{role="active",result="map-full",namespace="n",pod="p",NODE} 5x3000
  sockmap_flows_total{role="active",result="error",namespace="n",pod="p",NODE} 0+1x3000
  sockmap_redirected_bytes_total{namespace="n",pod="p",NODE} 0+90000000x3000
  sockmap_tcp_bytes_total{namespace="n",pod="p",NODE} 0+90000000x3000
  sockmap_build_info{version="1",NODE} 1x3000
  sockmap_rendezvous_lost_total{NODE} 3x3000
  sockmap_cni_errors_total{command="ADD",code="107",reported="false",NODE} 5x3000
  sockmap_cni_errors_total{command="ADD",code="102",reported="false",NODE} 0+1x3000
  sockmap_agent_part_ready{part="programs",NODE} 1x3000
  sockmap_pods{state="left-out",reason="older",NODE} 0x3000
  sockmap_pods{state="left-out",reason="host-network",NODE} 4x3000
  sockmap_agent_pods_looked_timestamp_seconds{NODE} 0+60x3000
  sockmap_agent_part_ready{part="switch",NODE} 1x3000
  sockmap_agent_part_ready{part="hazards",NODE} 1x3000
`
)

// wrong has, for each alert, series that replace those with the same labels, or are added.
var wrong = map[string]string{
	"SockmapAgentDown":         `up{job="kube-system/sockmap-cni",NODE} 0x3000`,
	"SockmapNotReadable":       `sockmap_collection_errors_total{NODE} 0+2x3000`,
	"SockmapNobodyAccelerated": `sockmap_attachments{state="accelerated",reason="",NODE} 0x3000`,
	"SockmapHazardOpen":        `sockmap_hazard_guarded{hazard="splice",NODE} 0x3000`,
	"SockmapPartNotReady":      `sockmap_agent_part_ready{part="hazards",NODE} 0x3000`,
	"SockmapGuardLost":         `sockmap_guard_active{guard="splice",NODE} 1x2700 0x300`,
	"SockmapPodsLeftOut":       `sockmap_pods{state="left-out",reason="older",NODE} 2x3000`,
	"SockmapPodsNotSeen":       `sockmap_agent_pods_looked_timestamp_seconds{NODE} 0+60x2000 120000x1000`,
	"SockmapDisabled":          `sockmap_enabled{NODE} 0x3000`,
	"SockmapMapFilling":        `sockmap_map_entries{map="sockets",NODE} 900x3000`,
	"SockmapMapFull":           `sockmap_flows_total{role="active",result="map-full",namespace="n",pod="p",NODE} 5+1x3000`,
	"SockmapFlowErrors":        `sockmap_flows_total{role="active",result="error",namespace="n",pod="p",NODE} 0+60x3000`,
	"SockmapMostlyTCP":         `sockmap_redirected_bytes_total{namespace="n",pod="p",NODE} 0+9000000x3000`,
	"SockmapRendezvousLost":    `sockmap_rendezvous_lost_total{NODE} 0+1x3000`,
	"SockmapPluginFails":       `sockmap_cni_errors_total{command="ADD",code="107",reported="false",NODE} 0+1x3000`,
	"SockmapVersionsDiffer":    `sockmap_build_info{version="2",instance="b:9469",node="b"} 1x3000`,
}

// with adds series to those of a good node.
func with(series string) string {
	replaced, _, _ := strings.Cut(series, "}")
	var b strings.Builder
	b.WriteString("load 1m\n")
	for line := range strings.Lines(ok) {
		if strings.TrimSpace(line) != "" && (series == "" || !strings.Contains(line, replaced+"}")) {
			b.WriteString(line)
		}
	}
	b.WriteString("  " + series + "\n")
	return strings.ReplaceAll(b.String(), "NODE", node)
}

func TestAlertsFireForTheirFaultOnly(t *testing.T) {
	all := alerts(t)
	for name := range all {
		if wrong[name] == "" {
			t.Errorf("no case makes %s fire", name)
		}
	}
	cases := map[string]string{"": ""}
	for name, series := range wrong {
		cases[name] = series
	}
	engine := promqltest.NewTestEngine(t, false, 0, 1e6)
	for name, series := range cases {
		t.Run("wrong="+name, func(t *testing.T) {
			db := promqltest.LoadedStorage(t, with(series))
			for alert, r := range all {
				fires := firing(t, r, func(at time.Time) promql.Vector {
					q, err := engine.NewInstantQuery(context.Background(), db, nil, r.Expr, at)
					if err != nil {
						t.Fatal(err)
					}
					defer q.Close()
					v, err := q.Exec(context.Background()).Vector()
					if err != nil {
						t.Fatalf("%s: %v", alert, err)
					}
					return append(promql.Vector(nil), v...)
				})
				if fires != (alert == name) {
					t.Errorf("%s fires: %v", alert, fires)
				}
			}
		})
	}
}

// firing reports whether one series of the rule has been present for as long as the rule's duration, in the
// last hours of the 50 that are loaded. It checks every five minutes.
func firing(t *testing.T, r rulefmt.Rule, query func(time.Time) promql.Vector) bool {
	t.Helper()
	const step = 5 * time.Minute
	end := time.Unix(0, 0).Add(49 * time.Hour)
	since := map[string]time.Time{}
	for at := end.Add(-time.Duration(r.For) - 2*step); !at.After(end); at = at.Add(step) {
		now := map[string]time.Time{}
		for _, s := range query(at) {
			key := s.Metric.String()
			now[key] = at
			if before, was := since[key]; was {
				now[key] = before
			}
			if at.Sub(now[key]) >= time.Duration(r.For) {
				return true
			}
		}
		since = now
	}
	return false
}
