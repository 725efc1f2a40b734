// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestOptOutNeverLoads(t *testing.T) {
	n, sb := newNode(t), container(t, "one")
	n.Step = func(step string) error { t.Errorf("did %q", step); return nil }
	for name, f := range map[string]func() error{
		"opt out": func() error { return n.OptOut(t.Context(), sb, "no") },
		"decline": func() error { return n.Decline(t.Context(), sb, errors.New("no")) },
	} {
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(n.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s made the state directory: %v", name, err)
		}
	}
}

func TestOptOutRegistersAnEndpointThatIsNotAccelerated(t *testing.T) {
	n, sb := newNode(t), container(t, "one")
	load(t, n)
	if err := n.OptOut(t.Context(), sb, "annotation"); err != nil {
		t.Fatal(err)
	}
	expect(t, n, "after opting out", state{
		Records: []string{"!one/eth0"}, Endpoints: []string{"!" + fmt.Sprint(cookieOf(t, sb.NetNSPath))}, Totals: 1,
	})
	if err := n.Check(t.Context(), sb); err != nil {
		t.Errorf("check: %v", err)
	}
	mustDel(t, n, sb)
	expect(t, n, "after DEL", state{})
}

func TestOptOutReplacesAnAddAndTheOtherWayRound(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	if err := n.OptOut(t.Context(), sb, "annotation"); err != nil {
		t.Fatal(err)
	}
	// The link stays, because its callbacks report when older connections close.
	out := state{
		Records: []string{"!one/eth0"}, Links: []string{linkOf(g)}, Totals: 1,
		Endpoints: []string{"!" + fmt.Sprint(cookieOf(t, sb.NetNSPath))},
	}
	expect(t, n, "after opting out", out)
	if err := n.OptOut(t.Context(), sb, "annotation"); err != nil {
		t.Fatal(err)
	}
	expect(t, n, "after opting out again", out)
	mustAdd(t, n, sb, in(g))
	expectOnly(t, n, "after ADD", g, sb)
	if err := n.OptOut(t.Context(), sb, "annotation"); err != nil {
		t.Fatal(err)
	}
	mustDel(t, n, sb)
	expect(t, n, "after DEL", state{})
}

func TestDeclineRecordsTheReason(t *testing.T) {
	n, sb := newNode(t), container(t, "one")
	load(t, n)
	reason := "cgroup holds as many programs as the kernel allows " + strings.Repeat("x", 1000)
	if err := n.Decline(t.Context(), sb, errors.New(reason)); err != nil {
		t.Fatal(err)
	}
	expect(t, n, "after declining", state{Records: []string{"!one/eth0"}})
	attachments, err := n.Attachments(t.Context())
	if err != nil || len(attachments) != 1 {
		t.Fatalf("records: %v, %v", attachments, err)
	}
	if r := attachments[0]; r.Accelerated() || !strings.HasPrefix(reason, r.Declined) || len(r.Declined) < 200 {
		t.Errorf("record says %q, want the beginning of the reason", r.Declined)
	}
	if err := n.Check(t.Context(), sb); err != nil {
		t.Errorf("check: %v", err)
	}
	removeNetNS(t, sb.NetNSPath)
	if _, err := n.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, n, "after reap", state{})
}

func TestDeclineLeavesAnEarlierAddOfTheSandboxAlone(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	if err := n.Decline(t.Context(), sb, errors.New("the lock was held")); err != nil {
		t.Fatal(err)
	}
	expectOnly(t, n, "after declining", g, sb)
	// With another network namespace it is another sandbox.
	sb.NetNSPath = newNetNS(t)
	if err := n.Decline(t.Context(), sb, errors.New("too many programs")); err != nil {
		t.Fatal(err)
	}
	expect(t, n, "after declining its successor", state{Records: []string{"!one/eth0"}})
}

func load(t *testing.T, n *Node) {
	t.Helper()
	if loaded, err := n.Load(t.Context()); err != nil || !loaded {
		t.Fatalf("load: %v, %v", loaded, err)
	}
}
