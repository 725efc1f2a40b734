// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"golang.org/x/sys/unix"
)

// hazardous returns a node on whose kernel the probes find these hazards, unguarded.
func hazardous(t testing.TB, names ...string) *Node {
	t.Helper()
	n := newNode(t)
	n.Settings.Probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
		return uint32(hazard.SetOf(names...)), 0, nil
	}
	return n
}

// TestReadyAgreesWithAdd compares Ready with Add, on nodes with and without obstacles.
func TestReadyAgreesWithAdd(t *testing.T) {
	broken := errors.New("the probes did not end")
	for _, c := range []struct {
		name     string
		prepare  func(t *testing.T, n *Node)
		accepted []string
		want     decline.Reason
	}{
		{name: "nothing is wrong"},
		{"hazards are open", find("splice", "eagain"), nil, decline.Hazards},
		{"one of two is accepted", find("splice", "eagain"), []string{"splice"}, decline.Hazards},
		{"both are accepted", find("splice", "eagain"), []string{"eagain", "splice"}, decline.None},
		{"all are accepted", find("splice"), []string{"all"}, decline.None},
		{"a load fails", func(_ *testing.T, n *Node) {
			n.Settings.Probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
				return 0, 0, broken
			}
		}, nil, decline.Load},
		{"the lock is held", func(t *testing.T, n *Node) {
			load(t, n)
			locked, err := lock.Exclusive(t.Context(), n.Dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { locked.Unlock() })
			n.LockTimeout = 20 * time.Millisecond
		}, nil, decline.Busy},
		{"other state", func(t *testing.T, n *Node) { mkdir(t, n.Dir, stateName(datapath.ABI+1)) }, nil,
			decline.ForeignState},
		{"switched off", func(t *testing.T, n *Node) {
			load(t, n)
			if _, err := n.SetDisabled(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}, nil, decline.None},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, g, sb := newNode(t), newGroup(t), container(t, "one")
			if c.prepare != nil {
				c.prepare(t, n)
			}
			for _, when := range []string{"first", "again"} { // not loaded, and loaded if possible
				if got := ReasonOf(n.Ready(t.Context(), c.accepted...)); got != c.want {
					t.Errorf("%s: ready says %q, want %q", when, got, c.want)
				}
			}
			want := in(g)
			want.AcceptHazards = c.accepted
			if _, err := n.Add(t.Context(), sb, want); ReasonOf(err) != c.want {
				t.Errorf("ADD says %v, want %q", err, c.want)
			}
		})
	}
}

func find(names ...string) func(*testing.T, *Node) {
	return func(_ *testing.T, n *Node) {
		n.Settings.Probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
			return uint32(hazard.SetOf(names...)), 0, nil
		}
	}
}

func TestPartsNameTheReasonOfEachFailure(t *testing.T) {
	n := hazardous(t, "splice")
	off := func(accepted ...string) (list []string) {
		for i, p := range n.Parts(accepted...) {
			if p.Name != PartNames()[i] {
				t.Errorf("part %d is %s, want %s", i, p.Name, PartNames()[i])
			}
			list = append(list, fmt.Sprintf("%s %s", p.Name, ReasonOf(p.Err)))
		}
		return list
	}
	check := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, off()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	check("not loaded", "programs not-loaded", "switch not-loaded", "hazards not-loaded")
	if _, err := os.Stat(n.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has made %s: %v", n.Dir, err)
	}
	load(t, n)
	check("loaded", "programs ", "switch ", "hazards hazards")
	if _, err := n.SetDisabled(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	check("switched off", "programs ", "switch disabled", "hazards hazards")
	if diff := cmp.Diff([]string{"programs ", "switch disabled", "hazards "}, off("splice")); diff != "" {
		t.Errorf("accepted (-want +got):\n%s", diff)
	}
}

func TestReasonOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want decline.Reason
	}{
		{nil, decline.None},
		{errors.New("anything else"), decline.Other},
		{&HazardError{}, decline.Hazards},
		{&ConfigError{cgroup.ErrNotCgroup2}, decline.CgroupPath},
		{cgroup.ErrNotCgroup2, decline.Cgroup},
		{fmt.Errorf("%w: %w", ErrBusy, context.DeadlineExceeded), decline.Busy},
		{fmt.Errorf("%w: %w", ErrBusy, unix.ENOMEM), decline.Resources},
		{&ConfigError{unix.ENFILE}, decline.Resources},
		{&LoadError{fmt.Errorf("%w: %w", datapath.ErrUnsupported, unix.ENOMEM)}, decline.Resources},
		{fmt.Errorf("%w: %w", datapath.ErrNoBPFFS, unix.EMFILE), decline.Resources},
		{fmt.Errorf("%w: %w", datapath.ErrNoBPFFS, unix.ENOSPC), decline.BPFFS},
		{ErrNetNS, decline.NetNS},
		{&datapath.StateError{}, decline.ForeignState},
		{fmt.Errorf("%w: %w", datapath.ErrNoBPFFS, unix.EPERM), decline.BPFFS},
		{&LoadError{fmt.Errorf("%w: %w", datapath.ErrUnsupported, unix.EPERM)}, decline.Kernel},
		{&LoadError{unix.EPERM}, decline.Permission},
		{&LoadError{unix.ENOMEM}, decline.Resources},
		{&LoadError{unix.E2BIG}, decline.Load},
		{fmt.Errorf("%w: %w", datapath.ErrTooManyPrograms, unix.E2BIG), decline.TooManyPrograms},
		{fmt.Errorf("%w: %w", datapath.ErrExclusiveProgram, unix.EPERM), decline.ExclusiveProgram},
		{&datapath.NeighbourError{}, decline.Neighbour},
		{unix.EMFILE, decline.Resources},
		{unix.ENOSPC, decline.Resources},
		{unix.E2BIG, decline.MapFull},
		{ErrDisabled, decline.Disabled},
		{datapath.ErrNotLoaded, decline.NotLoaded},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("wrapped: %w", err)
		}
		if got := ReasonOf(err); got != c.want {
			t.Errorf("%T (%v) is %q, want %q", c.err, c.err, got, c.want)
		}
	}
}

// recorded returns the only attachment of a node.
func recorded(t *testing.T, n *Node) Attachment {
	t.Helper()
	attachments, err := n.Attachments(t.Context())
	if err != nil || len(attachments) != 1 {
		t.Fatalf("records: %+v, %v; want one", attachments, err)
	}
	return attachments[0]
}

func TestRecordsHaveTheNumberOfTheReason(t *testing.T) {
	n, sb := hazardous(t, "splice"), container(t, "one")
	load(t, n)
	if err := n.Decline(t.Context(), sb, fmt.Errorf("no: %w", &HazardError{})); err != nil {
		t.Fatal(err)
	}
	if r := recorded(t, n); r.Reason != decline.Hazards || r.WhyNot() != decline.Hazards {
		t.Errorf("declined: recorded %q, is %q", r.Reason, r.WhyNot())
	}
	if err := n.OptOut(t.Context(), sb, "annotation"); err != nil {
		t.Fatal(err)
	}
	if r := recorded(t, n); r.Reason != decline.OptedOut || r.WhyNot() != decline.OptedOut {
		t.Errorf("opted out: recorded %q, is %q", r.Reason, r.WhyNot())
	}
	old := Attachment{Attachment: datapath.Attachment{Declined: "in the words of ABI 1"}}
	if old.WhyNot() != decline.Unrecorded {
		t.Errorf("a record without a number: %q", old.WhyNot())
	}
}

func TestWhyNotReportsAMissingEndpointOrLink(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	if r := recorded(t, n); !r.Accelerated() || r.WhyNot() != decline.None {
		t.Errorf("after ADD: %q", r.WhyNot())
	}
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.DeleteEndpoint(cookieOf(t, sb.NetNSPath)); err != nil {
		t.Fatal(err)
	}
	if r := recorded(t, n); r.WhyNot() != decline.EndpointGone {
		t.Errorf("without its endpoint: %q", r.WhyNot())
	}
	if err := d.Detach(datapath.LinkKey{CgroupID: g.id}); err != nil {
		t.Fatal(err)
	}
	if r := recorded(t, n); r.WhyNot() != decline.LinkGone || r.Accelerated() {
		t.Errorf("without its link: %q", r.WhyNot())
	}
}

// A shortage is the recorded reason, whatever the call was about to do.
func TestShortageIsTheRecordedReason(t *testing.T) {
	n, sb := newNode(t), container(t, "one")
	load(t, n)
	if err := n.Decline(t.Context(), sb, &ConfigError{fmt.Errorf("open cgroup: %w", unix.EMFILE)}); err != nil {
		t.Fatal(err)
	}
	if r := recorded(t, n); r.Reason != decline.Resources || r.WhyNot() != decline.Resources {
		t.Errorf("recorded %q, is %q", r.Reason, r.WhyNot())
	}
}
