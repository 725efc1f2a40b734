// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
	"golang.org/x/sys/unix"
)

var errAbort = errors.New("aborted by the test")

// steps lists the steps that f takes on n, in order.
func steps(t testing.TB, n *Node, f func()) []string {
	t.Helper()
	var names []string
	n.Step = func(name string) error { names = append(names, name); return nil }
	defer func() { n.Step = nil }()
	f()
	return names
}

// abortAt makes the i-th step of n fail, but not the steps that undo.
func abortAt(n *Node, i int) {
	n.Step = func(string) error {
		i--
		if i == -1 {
			return errAbort
		}
		return nil
	}
}

func TestAFailedAddIsUndone(t *testing.T) {
	g, sb := newGroup(t), container(t, "one")
	recorder := newNode(t)
	for i, step := range steps(t, recorder, func() { mustAdd(t, recorder, sb, in(g)) }) {
		t.Run(step, func(t *testing.T) {
			n := newNode(t)
			abortAt(n, i)
			if _, err := n.Add(t.Context(), sb, in(g)); !errors.Is(err, errAbort) {
				t.Fatalf("add: %v, want the step's error", err)
			}
			expect(t, n, "after the failure", state{})
		})
	}
}

func TestFailedAddKeepsOtherContainers(t *testing.T) {
	g, sb, neighbour := newGroup(t), container(t, "one"), container(t, "two")
	for i, step := range []string{"directory", "record", "link", "endpoint"} {
		t.Run(step, func(t *testing.T) {
			n := newNode(t)
			mustAdd(t, n, neighbour, in(g))
			abortAt(n, i)
			if _, err := n.Add(t.Context(), sb, in(g)); !errors.Is(err, errAbort) {
				t.Fatalf("add: %v, want the step's error", err)
			}
			expectOnly(t, n, "after the failure", g, neighbour)
		})
	}
}

func TestFailedAddKeepsAnEarlierAddOfItsKey(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *Sandbox, *Want){
		"same again":    func(*testing.T, *Sandbox, *Want) {},
		"another netns": func(t *testing.T, sb *Sandbox, _ *Want) { sb.NetNSPath = newNetNS(t) },
		"another cgroup": func(t *testing.T, _ *Sandbox, want *Want) {
			*want = in(newGroup(t))
		},
	} {
		for i, step := range []string{"directory", "record", "link", "endpoint"} {
			t.Run(name+", "+step, func(t *testing.T) {
				n, g, sb := newNode(t), newGroup(t), container(t, strings.Repeat("c", 200))
				sb.Network = strings.Repeat("n", 200) // longer than its field, and must survive being written back
				mustAdd(t, n, sb, in(g))
				again, want := sb, in(g)
				change(t, &again, &want)
				want.Policy.Peers = datapath.PeersPod // otherwise there may be nothing to change
				abortAt(n, i)
				if _, err := n.Add(t.Context(), again, want); !errors.Is(err, errAbort) {
					t.Fatalf("add: %v, want the step's error", err)
				}
				n.Step = nil
				if err := n.Check(t.Context(), sb); err != nil {
					t.Errorf("check of the earlier one: %v", err)
				}
				wantPolicy(t, n, "after the failure", sb, datapath.Policy{Accelerate: true})
				if removed, err := n.Reap(t.Context()); len(removed) != 0 || err != nil {
					t.Errorf("reap found %v, %v; want that nothing was left", removed, err)
				}
				// Its runtime must still be able to name it.
				if removed, err := n.GC(t.Context(), sb.Network, &[]ValidAttachment{}); len(removed) != 1 || err != nil {
					t.Errorf("GC of its network removed %v, %v; want it", removed, err)
				}
				expect(t, n, "after GC", state{})
			})
		}
	}
}

// obstacle is something that keeps a sandbox from being accelerated.
type obstacle struct {
	name  string
	given func(*testing.T, *Node, group) Want // creates the obstacle; the group is free to use
	want  error
	texts []string // in the error
}

func obstacles() []obstacle {
	return []obstacle{
		{
			"64 programs on the cgroup",
			func(t *testing.T, _ *Node, g group) Want { bpftest.Crowd(t, g.path, 64); return in(g) },
			datapath.ErrTooManyPrograms, []string{"bpftool cgroup show"},
		},
		{
			"a program on the parent that admits no other",
			func(t *testing.T, _ *Node, g group) Want {
				bpftest.AttachAlone(t, bpftest.SockOps(t), g.path, 0)
				return in(newGroupBelow(t, g.path))
			},
			datapath.ErrExclusiveProgram, []string{"BPF_F_ALLOW_MULTI"},
		},
		{
			"no cgroup2 and no right to mount it",
			func(_ *testing.T, n *Node, _ group) Want {
				n.Mount = func() (cgroup.Mount, error) { return cgroup.Mount{}, cgroup.ErrNoCgroup2 }
				n.Step = func(step string) error {
					if step == "mount cgroup2" {
						return unix.EPERM
					}
					return nil
				}
				return Want{}
			},
			unix.EPERM, nil,
		},
		{
			"a state directory that is not on a bpffs",
			func(t *testing.T, n *Node, g group) Want { n.Dir = filepath.Join(t.TempDir(), "sockmap"); return in(g) },
			datapath.ErrNoBPFFS, []string{"mount -t bpf"},
		},
		{
			"state of a newer version",
			func(t *testing.T, n *Node, g group) Want { mkdir(t, n.Dir, stateName(datapath.ABI+1)); return in(g) },
			datapath.ErrForeignState, []string{strconv.Quote(stateName(datapath.ABI + 1)),
				strconv.Quote(stateName(datapath.ABI)), "sockmapctl unload --force"},
		},
		{
			"a foreign map in our place",
			func(t *testing.T, n *Node, g group) Want {
				mkdir(t, n.Dir, stateName(datapath.ABI))
				pinForeignMap(t, n.Dir)
				return in(g)
			},
			datapath.ErrForeignState, []string{"config", "values of 4 bytes", "bytes"},
		},
		{
			"another process that holds the lock",
			func(t *testing.T, n *Node, g group) Want {
				mkdir(t, n.Dir)
				n.LockTimeout = 20 * time.Millisecond
				hold(t, n.Dir)
				return in(g)
			},
			ErrBusy, []string{fmt.Sprintf("process %d", os.Getpid())},
		},
	}
}

func TestErrorOfAddNamesTheObstacle(t *testing.T) {
	for _, c := range obstacles() {
		t.Run(c.name, func(t *testing.T) {
			n, sb := newNode(t), container(t, "one")
			want := c.given(t, n, newGroup(t))
			_, err := n.Add(t.Context(), sb, want)
			if !errors.Is(err, c.want) {
				t.Fatalf("add: %v, want %v", err, c.want)
			}
			for _, text := range c.texts {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q does not contain %q", err, text)
				}
			}
			if err := n.Check(t.Context(), sb); err == nil {
				t.Error("check finds the sandbox accelerated")
			}
		})
	}
}

func TestAConfiguredCgroupThatCannotBeUsedIsAConfigError(t *testing.T) {
	n, sb := newNode(t), container(t, "one")
	_, err := n.Add(t.Context(), sb, Want{CgroupPath: "/sockmap-there-is-none"})
	var config *ConfigError
	if !errors.As(err, &config) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("add: %v, want a ConfigError about a missing directory", err)
	}
}

func mkdir(t *testing.T, names ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(names...), 0o700); err != nil {
		t.Fatal(err)
	}
}

func pinForeignMap(t *testing.T, dir string) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(filepath.Join(dir, stateName(datapath.ABI), "config")); err != nil {
		t.Fatal(err)
	}
}

// hold keeps the lock on dir until the end of the test.
func hold(t testing.TB, dir string) {
	t.Helper()
	l, err := lock.Exclusive(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Unlock() })
}

func TestDelDoesNotWaitLongForTheLock(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	hold(t, n.Dir)
	n.LockTimeout = 20 * time.Millisecond
	if err := n.Del(t.Context(), sb.Network, sb.ContainerID, sb.IfName); !errors.Is(err, ErrBusy) {
		t.Errorf("del: %v, want ErrBusy", err)
	}
	if err := n.Del(t.Context(), sb.Network, "stranger", sb.IfName); err != nil {
		t.Errorf("del of a stranger: %v, want that it does not ask for the lock", err)
	}
}

func TestUnloadWhileAnAddWaitsForTheLock(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	if _, err := n.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	locked, err := lock.Exclusive(t.Context(), n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	added := make(chan error, 1)
	go func() {
		_, err := n.Add(context.Background(), sb, in(g))
		added <- err
	}()
	fixture.Wait(t, "the ADD has opened the directory, for its lock",
		func() bool { return fixture.OpenTwice(n.Dir) })
	if err := datapath.Unload(n.Dir, false); err != nil {
		t.Fatal(err)
	}
	locked.Unlock()
	if err := fixture.Receive(t, "the ADD ends", added); err != nil {
		t.Fatal(err)
	}
	expectOnly(t, n, "after ADD", g, sb)
}

func TestStepsComeInTheDocumentedOrder(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	got := steps(t, n, func() { mustAdd(t, n, sb, in(g)) })
	if want := []string{"directory", "load", "helpers", "record", "link", "endpoint"}; !slices.Equal(got, want) {
		t.Errorf("ADD takes the steps %q, want %q", got, want)
	}
	// The first DEL reads all attachments once, and marks what several of them use.
	got = steps(t, n, func() { mustDel(t, n, sb) })
	if want := []string{"common", "release endpoint", "release link", "record"}; !slices.Equal(got, want) {
		t.Errorf("DEL takes the steps %q, want %q", got, want)
	}
}
