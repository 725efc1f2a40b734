// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// exampleFlows are two flows, and a socket whose peer has not joined.
func exampleFlows() []flowView {
	end := func(local, remote, pod, peer, role string) flowView {
		v := flowView{
			Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote), Role: role, Joined: true,
			Namespace: "shop", Pod: pod, PeerNamespace: "data", PeerPod: peer, Mode: "redirect", labels: [2]string{"shop/" + pod, "data/" + peer},
		}
		if role == "passive" {
			v.Namespace, v.PeerNamespace = "data", "shop"
			v.labels = [2]string{"data/" + pod, "shop/" + peer}
		}
		return v
	}
	flows := []flowView{
		end("10.1.0.2:4001", "10.1.0.3:5432", "web-0", "db-0", "active"),
		end("10.1.0.3:5432", "10.1.0.2:4001", "db-0", "web-0", "passive"),
		end("[fd00::2]:4002", "[fd00::4]:8080", "web-1", "cache-0", "active"),
		end("[fd00::4]:8080", "[fd00::2]:4002", "cache-0", "web-1", "passive"),
		end("10.1.0.2:4003", "10.9.9.9:443", "web-0", "", "active"),
	}
	for i := range flows {
		flows[i].key = datapath.FlowKey{Own: uint32(i/2*2 + i%2), Peer: uint32(i/2*2 + 1 - i%2)}
		flows[i].RedirectedBytes, flows[i].AgeSeconds = uint64(1000*i), float64(100-i)
	}
	flows[1].Mode, flows[1].Reason, flows[1].TCPBytes = "tcp", "unread", 9000
	flows[3].BacklogBytes = 77
	flows[4].Mode, flows[4].PeerNamespace, flows[4].Joined, flows[4].labels[1] = "pending", "", false, ""
	return flows
}

func TestFiltersPickFlows(t *testing.T) {
	all := exampleFlows()
	for _, tt := range []struct {
		name   string
		filter flowFilter
		want   []int
	}{
		{"nothing asked", flowFilter{}, []int{0, 1, 2, 3, 4}},
		{"pod", flowFilter{pods: []string{"web-0"}}, []int{0, 1, 4}},
		{"pod with namespace", flowFilter{pods: []string{"data/db-0"}}, []int{0, 1}},
		{"pod in another namespace", flowFilter{pods: []string{"shop/db-0"}}, nil},
		{"one of two pods", flowFilter{pods: []string{"db-0", "cache-0"}}, []int{0, 1, 2, 3}},
		{"namespace", flowFilter{namespaces: []string{"data"}}, []int{0, 1, 2, 3}},
		{"address", flowFilter{addresses: []string{"10.1.0.3"}}, []int{0, 1}},
		{"v4-mapped address", flowFilter{addresses: []string{"::ffff:10.1.0.3"}}, []int{0, 1}},
		{"prefix", flowFilter{addresses: []string{"10.0.0.0/8"}}, []int{0, 1, 4}},
		{"v6", flowFilter{addresses: []string{"[fd00::4]"}}, []int{2, 3}},
		{"port", flowFilter{ports: []string{"5432"}}, []int{0, 1}},
		{"ports", flowFilter{ports: []string{"8000-8999", "443"}}, []int{2, 3, 4}},
		{"mode", flowFilter{modes: []string{"tcp", "pending"}}, []int{1, 4}},
		{"reason", flowFilter{reasons: []string{"unread"}}, []int{1}},
		{"role", flowFilter{roles: []string{"passive"}}, []int{1, 3}},
		{"all have to fit", flowFilter{roles: []string{"active"}, ports: []string{"5432"}}, []int{0}},
	} {
		if err := tt.filter.check(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []int
		for _, f := range tt.filter.flows(exampleFlows()) {
			got = append(got, slices.IndexFunc(all, func(a flowView) bool { return a.key == f.key && a.Local == f.Local }))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestSortingPutsTheMostFirst(t *testing.T) {
	flows := exampleFlows()
	flows[2].Rate = &rateView{TCPBytes: 5}
	for key, want := range map[string]string{
		"address": "10.1.0.3:5432", "bytes": "10.1.0.3:5432", "redirected": "10.1.0.2:4003", "tcp": "10.1.0.3:5432",
		"backlog": "[fd00::4]:8080", "age": "10.1.0.2:4001", "rate": "[fd00::2]:4002",
	} {
		some := slices.Clone(flows)
		sortFlows(some, key)
		if got := some[0].Local.String(); key != sortAddress && got != want {
			t.Errorf("--sort %s: %s comes first, want %s", key, got, want)
		}
	}
	if len(sortKeys()) != 7 {
		t.Errorf("a key is not tested: %v", sortKeys())
	}
}

func TestBothEndsMakeAPair(t *testing.T) {
	flows := exampleFlows()
	slices.Reverse(flows)
	pairs := pairUp(flows)
	sortPairs(pairs, "redirected")
	var out strings.Builder
	if _, err := pairTable(pairs, true, false).write(&out, 0, true); err != nil {
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
	alone := pairUp(exampleFlows()[1:2])
	if len(alone) != 1 || alone[0].Client != nil || alone[0].Server == nil {
		t.Errorf("%+v", alone)
	}
}

func TestRatesAreOfWhatWasSentSince(t *testing.T) {
	began := time.Now()
	flows := exampleFlows()[:4]
	r := rates{}.next(flows, began)
	if flows[0].rate() != (rateView{}) {
		t.Errorf("one look tells no rate, it says %+v", flows[0].rate())
	}
	later := exampleFlows()
	later[0].RedirectedBytes += 500
	later[1].TCPBytes += 2000
	later[1].TCPMessages += 4
	later[2].RedirectedBytes = 0 // another connection with the same numbers
	later[4].AgeSeconds = 1      // it is new, and sent 4000 bytes
	missed := later[4]
	missed.key.Own, missed.AgeSeconds = 99, 60 // it was there and was not seen
	later = append(later, missed)
	r.next(later, began.Add(2*time.Second))
	want := []rateView{{RedirectedBytes: 250}, {TCPBytes: 1000, Messages: 2}, {}, {}, {RedirectedBytes: 2000}, {}}
	for i, w := range want {
		if got := later[i].rate(); got != w {
			t.Errorf("flow %d: %+v, want %+v", i, got, w)
		}
	}
}

func TestArraysAreWrittenAsOneText(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		flows := exampleFlows()[:n]
		var pieces, whole bytes.Buffer
		if err := printArray(&pieces, flows); err != nil {
			t.Fatal(err)
		}
		if err := (&app{env: env{stdout: &whole}}).printJSON(flows); err != nil {
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
		g, ns := newGroup(t), newNetNS(t)
		n.add(t, endpoint.Sandbox{ContainerID: name, PodNamespace: "shop", PodName: name}, ns, g)
		busy = connect(t, g, ns, 1)[0]
	}
	var flows []flowView
	if err := json.Unmarshal([]byte(n.ok(t, "flows", "--pod", "shop/web-0", "-o", "json")), &flows); err != nil {
		t.Fatal(err)
	}
	if len(flows) != 2 || flows[0].Pod != "web-0" || flows[1].Pod != "web-0" {
		t.Errorf("want both ends in web-0, got %+v", flows)
	}
	var pairs []pairView
	out := n.ok(t, "flows", "--pod", "other-0", "--pairs", "-o", "json")
	if err := json.Unmarshal([]byte(out), &pairs); err != nil || len(pairs) != 1 || pairs[0].Client == nil || pairs[0].Server == nil {
		t.Errorf("want one pair: %v, %s", err, out)
	}

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 100 {
			busy.send(t, 1, 1000)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	out = n.ok(t, "flows", "-o", "json", "--watch=500ms", "--count", "2", "--sort", "rate")
	<-sent
	dec := json.NewDecoder(strings.NewReader(out))
	for range 2 {
		flows = nil // what is left of the list before would count
		if err := dec.Decode(&flows); err != nil {
			t.Fatal(err)
		}
	}
	if f := flows[0]; f.Local.String() != busy.client.LocalAddr().String() || f.rate().RedirectedBytes < 1000 {
		t.Errorf("the busy socket comes first, with its rate; got %+v %+v", f, f.rate())
	}
	if dec.More() {
		t.Error("there is a third list")
	}
}

func TestTheShellIsGivenWhatFlagsTake(t *testing.T) {
	n, g := newLoadedNode(t), newGroup(t)
	n.add(t, endpoint.Sandbox{ContainerID: "c1", PodNamespace: "shop", PodName: "web-0"}, newNetNS(t), g)
	for _, tt := range []struct{ flag, typed, want string }{
		{"--pod", "", "shop/web-0"},
		{"--namespace", "", "shop"},
		{"--reason", "back", "backlog-bytes\nbacklog-messages"},
		{"--mode", "tcp,re", "tcp,redirect"},
		{"--sort", "t", "tcp"},
		{"--role", "x", ""},
	} {
		got, _, _ := strings.Cut(n.run(t, "__complete", "flows", tt.flag, tt.typed).stdout, ":4")
		if strings.TrimSpace(got) != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.flag, tt.typed, got, tt.want)
		}
	}
}
