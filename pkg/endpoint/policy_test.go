// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

var (
	strict = datapath.Policy{Accelerate: true, Namespace: "shop", Peers: datapath.PeersPod}
	wide   = datapath.Policy{Accelerate: true, Namespace: "shop"}
	web    = datapath.Policy{Accelerate: true, Namespace: "shop",
		Include: []datapath.PortRange{{First: 80, Last: 90}}}
	no85 = datapath.Policy{Accelerate: true, Namespace: "shop",
		Exclude: []datapath.PortRange{{First: 85, Last: 85}}}
)

// also returns the same container in another network.
func also(sb Sandbox, network string) Sandbox {
	sb.Network, sb.IfName = network, network+"0"
	return sb
}

func under(g group, p datapath.Policy) Want {
	w := in(g)
	w.Policy = p
	return w
}

// wantPolicy compares the policy without its group, of which only the hash is kept.
func wantPolicy(t testing.TB, n *Node, when string, sb Sandbox, want datapath.Policy) {
	t.Helper()
	r, ok, err := opened(t, n).Endpoint(cookieOf(t, sb.NetNSPath))
	if err != nil || !ok {
		t.Fatalf("%s: endpoint: %v, %v", when, ok, err)
	}
	want.Namespace, want.Group = "", r.Group
	if diff := cmp.Diff(want, r.Policy); diff != "" {
		t.Errorf("%s: policy differs (-want +got):\n%s", when, diff)
	}
}

func mustOptOut(t testing.TB, n *Node, sb Sandbox) {
	t.Helper()
	if err := n.OptOut(t.Context(), sb, "opted out"); err != nil {
		t.Fatal(err)
	}
}

func TestAContainerInSeveralNetworksHasThePolicyThatAllAllow(t *testing.T) {
	both := web
	both.Exclude = no85.Exclude
	for _, tt := range []struct {
		name                string
		a, b, aloneTogether datapath.Policy
	}{
		{"the narrowest peers", strict, wide, strict},
		{"the ports of both", web, no85, both},
	} {
		for _, order := range []string{"a, then b", "b, then a"} {
			t.Run(tt.name+", "+order, func(t *testing.T) {
				n, g := newNode(t), newGroup(t)
				a := container(t, "one")
				b := also(a, "b")
				first, second, one, two := a, b, tt.a, tt.b
				if order != "a, then b" {
					first, second, one, two = b, a, tt.b, tt.a
				}
				mustAdd(t, n, first, under(g, one))
				wantPolicy(t, n, "after the first ADD", a, one)
				mustAdd(t, n, second, under(g, two))
				wantPolicy(t, n, "after the second ADD", a, tt.aloneTogether)
				mustAdd(t, n, first, under(g, one))
				wantPolicy(t, n, "after the first ADD again", a, tt.aloneTogether)
				mustDel(t, n, first)
				wantPolicy(t, n, "after DEL of the first", a, two)
				mustAdd(t, n, first, under(g, one))
				mustAdd(t, n, second, under(g, one))
				wantPolicy(t, n, "after another ADD of the second", a, one)
				mustDel(t, n, second)
				mustDel(t, n, first)
				expect(t, n, "after DEL of both", state{})
			})
		}
	}
}

func TestAnOptOutOfOneNetworkCountsForAll(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	load(t, n)
	a := container(t, "one")
	b, c := also(a, "b"), also(a, "c")
	mustAdd(t, n, c, under(g, strict))
	mustOptOut(t, n, a)
	wantPolicy(t, n, "after opting out", a, datapath.Policy{Peers: datapath.PeersPod})
	if out := mustAdd(t, n, b, under(g, wide)); !out.OptedOut {
		t.Error("the ADD does not say that the container has opted out")
	}
	wantPolicy(t, n, "after the ADD of another network", a, datapath.Policy{Peers: datapath.PeersPod})
	mustDel(t, n, a)
	wantPolicy(t, n, "after DEL of the one that opted out", a, strict)
	if out := mustAdd(t, n, b, under(g, wide)); out.OptedOut {
		t.Error("the ADD says that the container has opted out, which is over")
	}
	mustDel(t, n, c)
	wantPolicy(t, n, "after DEL of the strict one", a, wide)
}

func TestGCOfOneNetworkDerivesThePolicyOfTheOthers(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	a := container(t, "one")
	b := also(a, "b")
	mustAdd(t, n, a, under(g, wide))
	mustAdd(t, n, b, under(g, strict))
	if _, err := n.GC(t.Context(), "b", &[]ValidAttachment{}); err != nil {
		t.Fatal(err)
	}
	wantPolicy(t, n, "after GC", a, wide)
}

// Live flows of the whole node check their policy again after each change of the epoch.
func TestTheEpochChangesWithThePolicyOnly(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	a := container(t, "one")
	b := also(a, "b")
	mustAdd(t, n, a, under(g, strict))
	for _, tt := range []struct {
		what    string
		call    func()
		changes bool
	}{
		{"the same ADD again", func() { mustAdd(t, n, a, under(g, strict)) }, false},
		{"an ADD that is wider", func() { mustAdd(t, n, b, under(g, wide)) }, false},
		{"an ADD that is narrower", func() { mustAdd(t, n, b, under(g, web)) }, true},
		{"DEL of the narrower", func() { mustDel(t, n, b) }, true},
		{"an opt-out", func() { mustOptOut(t, n, b) }, true},
		{"the opt-out again", func() { mustOptOut(t, n, b) }, false},
		{"DEL of the opt-out", func() { mustDel(t, n, b) }, true},
		{"DEL of the last", func() { mustDel(t, n, a) }, true},
	} {
		before := epochOf(t, n)
		tt.call()
		if got := epochOf(t, n) - before; got > 1 || (got == 1) != tt.changes {
			t.Errorf("%s: the epoch has changed %d times, want that it does: %v", tt.what, got, tt.changes)
		}
	}
}

// The policy is written before live sockets are notified, so an error can come in between.
func TestAFailedAddRestoresThePolicyThatWasWritten(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	a := container(t, "one")
	mustAdd(t, n, a, under(g, strict))
	cookie := cookieOf(t, a.NetNSPath)
	n.Step = func(step string) error {
		if step != "endpoint" {
			return nil
		}
		n.Step = nil
		d, err := datapath.Open(n.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.SetEndpoint(cookie, wide); err != nil {
			t.Fatal(err)
		}
		return errAbort
	}
	if _, err := n.Add(t.Context(), a, under(g, wide)); err == nil {
		t.Fatal("the ADD does not fail")
	}
	wantPolicy(t, n, "after the failed ADD", a, strict)
}

// asOfABI1 changes the attachment of a sandbox to what ABI 1 recorded.
func asOfABI1(t *testing.T, n *Node, sb Sandbox) {
	t.Helper()
	edit(t, n, sb, func(a *datapath.Attachment) { a.Policy = nil })
}

func TestAttachmentsOfABI1HaveThePolicyInForce(t *testing.T) {
	setUp := func(t *testing.T) (n *Node, g group, a, b Sandbox) {
		n, g = newNode(t), newGroup(t)
		a = container(t, "one")
		mustAdd(t, n, a, under(g, web))
		asOfABI1(t, n, a)
		return n, g, a, also(a, "b")
	}
	t.Run("another network comes and goes", func(t *testing.T) {
		n, g, a, b := setUp(t)
		mustAdd(t, n, b, under(g, strict))
		narrow := strict
		narrow.Include = web.Include
		wantPolicy(t, n, "after ADD", a, narrow)
		mustDel(t, n, b)
		wantPolicy(t, n, "after DEL", a, web)
	})
	t.Run("another of ABI 1 goes", func(t *testing.T) {
		n, g, a, b := setUp(t)
		mustAdd(t, n, b, under(g, web))
		asOfABI1(t, n, b)
		asOfABI1(t, n, a)
		mustDel(t, n, b)
		wantPolicy(t, n, "after DEL", a, web)
		mustDel(t, n, a)
		expect(t, n, "after DEL of both", state{})
	})
	t.Run("it is added again", func(t *testing.T) {
		n, g, a, _ := setUp(t)
		mustAdd(t, n, a, under(g, wide))
		wantPolicy(t, n, "after ADD", a, wide)
	})
	t.Run("it is added again and that fails", func(t *testing.T) {
		n, g, a, _ := setUp(t)
		abortAt(n, len([]string{"directory", "record of the older", "record", "link"}))
		if _, err := n.Add(t.Context(), a, under(g, wide)); err == nil {
			t.Fatal("the ADD does not fail")
		}
		wantPolicy(t, n, "after the failed ADD", a, web)
	})
	t.Run("it has opted out", func(t *testing.T) {
		n, g, a, b := setUp(t)
		mustOptOut(t, n, b)
		mustDel(t, n, a)
		asOfABI1(t, n, b)
		mustAdd(t, n, a, under(g, wide))
		wantPolicy(t, n, "after ADD", a, datapath.Policy{})
	})
}
