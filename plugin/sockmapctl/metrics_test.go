// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// scrape returns all series by name and labels, as the text format has them, without zeros.
func (n *testNode) scrape(t *testing.T) map[string]string {
	t.Helper()
	series := map[string]string{}
	for line := range strings.Lines(n.ok(t, "metrics")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" && value != "0" {
			series[name] = value
		}
	}
	return series
}

// toOutside connects from the group to a server outside and sends, so that the reply shows that no peer
// joined.
func toOutside(t *testing.T, g *group, ns *netnstest.NetNS) {
	t.Helper()
	var (
		l   *net.TCPListener
		p   pair
		err error
	)
	ns.Do(func() { l, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g.in(t, func() {
		ns.Do(func() { p.client, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr)) })
	})
	if err == nil {
		p.server, err = l.AcceptTCP()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	p.send(t, 1, 100)
}

func TestScrapeAgreesWithTheTrafficToTheByte(t *testing.T) {
	n, g, ns := newLoadedNode(t), newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "c1", PodNamespace: "shop", PodName: "web-0"}, ns, g)
	n.ok(t, "attach", "--cgroup", g.path) // for the namespace below, which is not registered

	stays := connect(t, g, ns, 1)[0]
	stays.send(t, 3, 1000)
	goes := connect(t, g, ns, 1)[0]
	goes.send(t, 5, 10)
	goes.close()
	toOutside(t, g, ns)
	stranger := connect(t, g, netnstest.New(t), 1)[0]
	stranger.send(t, 1, 64)
	n.ok(t, "disable")
	stays.send(t, 2, 7)
	eventually(t, "all sockets have left", func() bool {
		return n.scrape(t)[`sockmap_map_entries{map="sockets"}`] == "" // none: zeroes are left out
	})

	const web, unknown = `namespace="shop",pod="web-0"`, `namespace="",pod=""`
	want := map[string]string{
		"sockmap_redirected_bytes_total{" + web + "}":                         "3050",
		"sockmap_redirected_bytes_total{" + unknown + "}":                     "64",
		"sockmap_redirected_messages_total{" + web + "}":                      "8",
		"sockmap_redirected_messages_total{" + unknown + "}":                  "1",
		"sockmap_tcp_bytes_total{" + web + "}":                                "14",
		"sockmap_flows_total{" + web + `,result="joined",role="active"}`:      "2",
		"sockmap_flows_total{" + web + `,result="joined",role="passive"}`:     "2",
		"sockmap_flows_total{" + web + `,result="remote",role="active"}`:      "1",
		"sockmap_flows_total{" + unknown + `,result="joined",role="active"}`:  "1",
		"sockmap_flows_total{" + unknown + `,result="joined",role="passive"}`: "1",
		// To the outside: bytes before the reply use TCP, and the socket leaves.
		"sockmap_fallback_total{" + web + `,reason="no-peer"}`:      "1",
		"sockmap_fallback_total{" + web + `,reason="disabled"}`:     "2",
		"sockmap_fallback_total{" + unknown + `,reason="disabled"}`: "2",
		`sockmap_active_flows{mode="left",` + web + "}":             "2",
		`sockmap_active_flows{mode="left",` + unknown + "}":         "2",
		"sockmap_backlog_high_bytes{" + web + "}":                   "1000",
		"sockmap_backlog_high_bytes{" + unknown + "}":               "64",
		`sockmap_attachments{reason="",state="accelerated"}`:        "1",
		`sockmap_map_entries{map="endpoints"}`:                      "1",
		`sockmap_map_entries{map="attachments"}`:                    "1",
		`sockmap_map_max_entries{map="sockets"}`:                    "65536",
		`sockmap_map_max_entries{map="endpoints"}`:                  "16384",
		`sockmap_map_max_entries{map="attachments"}`:                "16384",
		`sockmap_build_info{version="` + version.String() + `"}`:    "1",
	}
	got := n.scrape(t)
	maps.DeleteFunc(got, func(series, _ string) bool { // as the kernel lets them, and counts
		return strings.HasPrefix(series, "sockmap_guard_") || strings.HasPrefix(series, "sockmap_program_")
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestScrapeIsCleanToPromtool(t *testing.T) {
	n := newLoadedNode(t)
	problems, err := promlint.New(strings.NewReader(n.ok(t, "metrics"))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsInBothFormatsAreTheSame(t *testing.T) {
	n := newLoadedNode(t)
	var families []metricView
	n.read(t, &families, "metrics")
	got := map[string]int{}
	for _, f := range families {
		got[f.Name] = len(f.Series)
	}
	want := map[string]int{}
	for line := range strings.Lines(n.ok(t, "metrics")) {
		name := strings.FieldsFunc(line, func(r rune) bool { return r == '{' || r == ' ' })[0]
		if strings.HasPrefix(line, "#") || strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_sum") {
			continue
		}
		want[strings.TrimSuffix(name, "_count")]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// As the kernel counts runs of programs.
	delete(got, "sockmap_program_runs_total")
	delete(got, "sockmap_program_run_seconds_total")
	if len(got) != 25 {
		t.Errorf("got %q", slices.Sorted(maps.Keys(got)))
	}
}
