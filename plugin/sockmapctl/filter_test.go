// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/livetest"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestBothEndsOfAConnectionAreOnePair(t *testing.T) {
	flows := livetest.Flows()
	slices.Reverse(flows)
	pairs := live.PairUp(flows)
	live.PairOrder.Sort(pairs, "redirected")
	var out strings.Builder
	if _, err := pairTable(pairs, true, false).Write(&out, 0, true); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		"CLIENT SERVER CONTAINER PEER MODE→ ←MODE REDIRECTED→ ←REDIRECTED TCP→ ←TCP AGE BACKLOG→ ←BACKLOG",
		"[fd00::2]:4002 [fd00::4]:8080 shop/web-1 data/cache-0 redirect redirect 2KiB 2.9KiB 0B 0B 1m38s 77B 0B",
		"10.1.0.2:4003 10.9.9.9:443 shop/web-0 - pending - 3.9KiB - 0B - 1m36s - 0B",
		"10.1.0.2:4001 10.1.0.3:5432 shop/web-0 data/db-0 redirect tcp:unread 0B 1000B 0B 8.8KiB 1m40s 0B 0B",
	}
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// The server alone: its client is not in the sockhash any more.
	alone := live.PairUp(livetest.Flows()[1:2])
	if len(alone) != 1 || alone[0].Client != nil || alone[0].Server == nil {
		t.Errorf("%+v", alone)
	}
}

func TestAListIsIndentedLikeADocument(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		flows := livetest.Flows()[:n]
		var pieces, whole bytes.Buffer
		if err := writeList(&pieces, "Flow", flows); err != nil {
			t.Fatal(err)
		}
		if err := (&app{env: env{stdout: &whole}}).printDocument("FlowList",
			map[string]any{"items": flows}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(whole.String(), pieces.String()); diff != "" {
			t.Errorf("%d flows: %s", n, diff)
		}
	}
}

func TestFlowsOfOnePodWithRates(t *testing.T) {
	n := newLoadedNode(t)
	var busy pair
	for _, name := range []string{"web-0", "other-0"} {
		g, ns := newGroup(t), netnstest.New(t)
		n.add(t, endpoint.Sandbox{ContainerID: name, PodNamespace: "shop", PodName: name}, ns, g)
		busy = connect(t, g, ns, 1)[0]
	}
	var flows []live.Flow
	decode(t, n.ok(t, "flows", "--pod", "shop/web-0", "-o", "json"), &flows)
	if len(flows) != 2 || flows[0].Pod != "web-0" || flows[1].Pod != "web-0" {
		t.Errorf("want both ends in web-0, got %+v", flows)
	}
	var pairs []live.Pair
	out := n.ok(t, "flows", "--pod", "other-0", "--pairs", "-o", "json")
	if kind := decode(t, out, &pairs); kind != "FlowPairList" || len(pairs) != 1 || pairs[0].Client == nil ||
		pairs[0].Server == nil {
		t.Errorf("want one pair: %s", out)
	}

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 100 {
			busy.send(t, 1, 1000)
			fixture.Elapse(10*time.Millisecond, "the pace of the sender")
		}
	}()
	out = n.ok(t, "flows", "-o", "json", "--watch=500ms", "--count", "2", "--sort-by", "rate")
	<-sent
	dec := json.NewDecoder(strings.NewReader(out))
	for range 2 {
		var list json.RawMessage
		if err := dec.Decode(&list); err != nil {
			t.Fatal(err)
		}
		flows = nil // what is left of the list before would count
		decode(t, string(list), &flows)
	}
	if f := flows[0]; f.Local.String() != busy.client.LocalAddr().String() ||
		f.PerSecond().RedirectedBytes < 1000 {
		t.Errorf("the busy socket comes first, with its rate; got %+v %+v", f, f.PerSecond())
	}
	if dec.More() {
		t.Error("there is a third list")
	}
}

func TestShellCompletesTheValuesOfFlags(t *testing.T) {
	n, g := newLoadedNode(t), newGroup(t)
	n.add(t, endpoint.Sandbox{ContainerID: "c1", PodNamespace: "shop", PodName: "web-0"}, netnstest.New(t), g)
	for _, tt := range []struct{ flag, typed, want string }{
		{"--pod", "", "shop/web-0"},
		{"--namespace", "", "shop"},
		{"--reason", "back", "backlog-bytes\nbacklog-messages"},
		{"--mode", "tcp,re", "tcp,redirect"},
		{"--sort-by", "t", "tcp"},
		{"--mode", "!re", "!redirect"},
		{"-n", "", "shop"},
		{"-o", "y", "yaml"},
		{"--role", "x", ""},
	} {
		got, _, _ := strings.Cut(n.run(t, "__complete", "flows", tt.flag, tt.typed).stdout, ":4")
		if strings.TrimSpace(got) != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.flag, tt.typed, got, tt.want)
		}
	}
	got := n.run(t, "__complete", "attachments", "--sort-by", "co").stdout
	if !strings.HasPrefix(got, "container\n:4") {
		t.Errorf("attachments --sort-by co: %q, want container", got)
	}
}
