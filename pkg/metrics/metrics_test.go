// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestScrapeHasAllMetricsWithTheirValues(t *testing.T) {
	families, err := node().collector().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := Write(&text, families); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, filepath.Join("testdata", "scrape.txt"), text.String())
}

// A sum that Totals.Add does not add, or that no row of the table reads, is found here.
func TestEverySumOfAPodIsExported(t *testing.T) {
	exported := func(sums datapath.Totals) string {
		src := node()
		src.totals = map[uint64]datapath.Totals{0: {}, 21: sums}
		families, err := src.collector().Gather()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(families)
	}
	without := exported(datapath.Totals{})
	for _, field := range reflect.VisibleFields(reflect.TypeFor[datapath.Totals]()) {
		var sums datapath.Totals
		switch v := reflect.ValueOf(&sums).Elem().FieldByIndex(field.Index); {
		case v.CanUint():
			v.SetUint(1e9)
		case v.CanInt(): // a duration
			v.SetInt(1e9)
		case field.Name == "Flows":
			sums.Flows = map[datapath.Role]map[datapath.Result]uint64{datapath.RoleActive: {datapath.ResultShare: 1}}
		case field.Name == "Fallbacks":
			sums.Fallbacks = map[datapath.Reason]uint64{datapath.ReasonMemory: 1}
		default:
			t.Errorf("this test cannot set %s", field.Name)
		}
		if exported(sums) == without {
			t.Errorf("%s of datapath.Totals is not exported, see Totals.Add and table.go", field.Name)
		}
	}
}

func TestNamesAndUnitsFollowPrometheusPractice(t *testing.T) {
	problems, err := testutil.CollectAndLint(node().collector())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEndpointsOfOnePodAreOneSeries(t *testing.T) {
	got := scrape(t, node().collector())
	for series, want := range map[string]float64{
		"sockmap_redirected_bytes_total namespace=shop pod=web-0":          1101,
		"sockmap_tcp_messages_total namespace=shop pod=web-0":              5,
		"sockmap_fallback_total namespace=shop pod=web-0 reason=disabled":  6,
		"sockmap_active_flows mode=tcp namespace=shop pod=web-0":           1,
		"sockmap_redirected_bytes_total namespace= pod=":                   55,
		"sockmap_active_flows mode=redirect namespace= pod=":               1,
		"sockmap_redirected_bytes_total namespace=shop pod=db-0":           0,
		"sockmap_flows_total namespace= pod= result=map-full role=passive": 0,
		"sockmap_attachments reason=cgroup state=declined":                 1,
		"sockmap_attachments reason=hazards state=declined":                0,
		"sockmap_attachments reason=opted-out state=opted-out":             0,
		"sockmap_attachments reason=switched-off state=opted-out":          0,
		"sockmap_attachments reason= state=accelerated":                    4,
		"sockmap_map_entries map=sockets":                                  4,
	} {
		if n, ok := got[series]; !ok || n != want {
			t.Errorf("%s is %v (present: %v), want %v", series, n, ok, want)
		}
	}
}

// An attachment that was accelerated and has lost its link or its endpoint is counted separately, as
// sockmapctl attachments lists it.
func TestEndpointsAreCountedAsTheyAreNow(t *testing.T) {
	src := node()
	src.attached[0].LinkAlive = false
	src.attached[1].Registered = false
	src.attached[2].Enabled = false
	src.attached[4].Reason = decline.Reason(300)
	got := scrape(t, src.collector())
	for series, want := range map[string]float64{
		"reason= state=accelerated":                  1,
		"reason=link-gone state=declined":            1,
		"reason=endpoint-gone state=declined":        1,
		"reason=opted-out-elsewhere state=opted-out": 1,
		"reason=number-300 state=declined":           1,
		"reason=cgroup state=declined":               0,
	} {
		if n, ok := got["sockmap_attachments "+series]; !ok || n != want {
			t.Errorf("%s is %v (present: %v), want %v", series, n, ok, want)
		}
	}
}

func TestFailedReadIsCountedAndNothingElseIsExported(t *testing.T) {
	whole := node()
	scrape(t, whole.collector())
	for failAt := 1; failAt <= whole.reads; failAt++ {
		src := node()
		src.failAt = failAt
		c := src.collector()
		var reported error
		c.OnError = func(err error) { reported = err }
		got := scrape(t, c)
		want := map[string]float64{"sockmap_collection_errors_total": 1, "sockmap_build_info version=v1.2.3": 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("read %d fails: %s", failAt, diff)
		}
		if !errors.Is(reported, errBroken) || src.closed != 1 {
			t.Errorf("read %d fails: reported %v, closed %d times", failAt, reported, src.closed)
		}
		if diff := cmp.Diff(scrape(t, node().collector()), withoutFailures(scrape(t, c))); diff != "" {
			t.Errorf("the scrape after read %d failed: %s", failAt, diff)
		}
	}
}

func withoutFailures(all map[string]float64) map[string]float64 {
	all["sockmap_collection_errors_total"] = 0
	return all
}

// churn closes one live socket and opens another at each read.
func churn(src *source, sent *uint64) func() {
	rng := rand.New(rand.NewPCG(1, 2))
	return func() {
		if len(src.flows) > 0 {
			i := rng.IntN(len(src.flows))
			gone := src.flows[i]
			src.flows = append(append([]datapath.Flow{}, src.flows[:i]...), src.flows[i+1:]...)
			sum := src.totals[gone.NetNSCookie]
			sum.RedirectedBytes += gone.RedirectedBytes
			src.totals[gone.NetNSCookie] = sum
		}
		n := rng.Uint64N(1 << 20)
		*sent += n
		src.flows = append(src.flows, datapath.Flow{NetNSCookie: 11, RedirectedBytes: n})
	}
}

func TestCountersNeverGoBackWhileSocketsClose(t *testing.T) {
	const series = "sockmap_redirected_bytes_total namespace=shop pod=web-0"
	src := node()
	src.totals[12], src.totals[11] = datapath.Totals{}, datapath.Totals{}
	src.flows = nil
	var sent uint64
	src.step = churn(src, &sent)
	c := src.collector()
	last := 0.0
	for i := range 1000 {
		now := scrape(t, c)[series]
		if now < last {
			t.Fatalf("scrape %d gives %v after %v", i, now, last)
		}
		if now > float64(sent) {
			t.Fatalf("scrape %d gives %v, only %d were sent", i, now, sent)
		}
		last = now
	}
	src.step = nil
	if now := scrape(t, c)[series]; now != float64(sent) {
		t.Errorf("at rest it gives %v, want the %d that were sent", now, sent)
	}
}

func TestCountersRestartWithNewMaps(t *testing.T) {
	src := node()
	c := src.collector()
	before := scrape(t, c)
	src.config.LoadedAt = src.config.LoadedAt.Add(time.Millisecond) // the same load, as the clock sees it
	src.totals, src.flows = map[uint64]datapath.Totals{0: {}, 11: {}}, nil
	const series = "sockmap_redirected_bytes_total namespace=shop pod=web-0"
	if now := scrape(t, c)[series]; now == 0 || now > before[series] {
		t.Errorf("with the same maps it gives %v after %v", now, before[series])
	}
	src.config.LoadedAt = src.config.LoadedAt.Add(time.Minute)
	if now := scrape(t, c)[series]; now != 0 {
		t.Errorf("with new maps it gives %v, want 0", now)
	}
}

func TestPodsHaveNoSeriesForEventsThatNeverHappened(t *testing.T) {
	got := scrape(t, node().collector())
	var rare []string
	for series := range maps.Keys(got) {
		if strings.Contains(series, "pod=db-0") && (strings.Contains(series, "fallback") ||
			strings.Contains(series, "result=remote")) {
			rare = append(rare, series)
		}
	}
	if len(rare) > 0 {
		t.Errorf("an idle pod has %q", rare)
	}
}

func TestSeriesOfPodsAreBoundedAndStayWithThoseThatHadThem(t *testing.T) {
	src := node()
	c := src.collector()
	c.MaxPods = 1
	pods := func() (names []string, left float64) {
		for series, value := range scrape(t, c) {
			if strings.HasPrefix(series, "sockmap_tcp_bytes_total namespace=shop") {
				names = append(names, series[strings.Index(series, "pod="):])
			}
			if series == "sockmap_pods_without_series" {
				left = value
			}
		}
		return names, left
	}
	if names, left := pods(); !cmp.Equal(names, []string{"pod=db-0"}) || left != 1 {
		t.Fatalf("series for %q, %v without", names, left)
	}
	src.endpoints[41] = true // sorts before all others
	src.attached = append(src.attached, accelerated(datapath.Attachment{NetNSCookie: 41, PodNamespace: "shop",
		PodName: "a-0"}))
	src.totals[41] = datapath.Totals{}
	if names, left := pods(); !cmp.Equal(names, []string{"pod=db-0"}) || left != 2 {
		t.Errorf("after another pod came: series for %q, %v without", names, left)
	}
}

func TestSumsOfTheNodeHaveNoPodsAndKeepThoseThatAreGone(t *testing.T) {
	src := node()
	src.retired.RedirectedBytes = 1 << 20
	c := src.collector()
	c.OfNode = true
	got := scrape(t, c)
	for series := range got {
		if strings.Contains(series, "pod=") && !strings.Contains(series, "pod= ") &&
			!strings.HasSuffix(series, "pod=") {
			t.Errorf("there is %s", series)
		}
	}
	if n := got["sockmap_redirected_bytes_total namespace= pod="]; n != 1<<20+1156 {
		t.Errorf("%v bytes were redirected on the node", n)
	}
	if n := got["sockmap_backlog_high_bytes namespace= pod="]; n != 70000 {
		t.Errorf("%v bytes waited at most", n)
	}
}
