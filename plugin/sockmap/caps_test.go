// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// need is a row of the table in docs/SECURITY.md.
type need struct {
	calls  string // as the table has them
	text   string // as well
	verbs  []string
	loaded bool // before the call
	caps   []string
}

// wanted are the capabilities of the row on this machine. Probes make a cgroup below the root of cgroup2,
// where root may not write as its owner if the root has the mode that the kernel gives it.
func (n *need) wanted(t *testing.T) []string {
	t.Helper()
	if n.loaded || len(n.caps) == 0 {
		return n.caps
	}
	m, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Stat(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	if root.Mode().Perm()&0o200 != 0 {
		return n.caps
	}
	return append(slices.Clone(n.caps), "CAP_DAC_OVERRIDE")
}

var needs = []need{
	{"`VERSION`, and each call whose input is refused", "none", []string{"VERSION"}, false, nil},
	{"`STATUS`, `DEL` and `GC`, while the programs are loaded", "none", []string{"STATUS", "DEL", "GC"}, true,
		nil},
	{
		"`ADD` and `CHECK`, while the programs are loaded",
		"`CAP_SYS_ADMIN`, to enter the container's network namespace",
		[]string{"ADD", "CHECK"}, true, []string{"CAP_SYS_ADMIN"},
	},
	{
		"`ADD` and `STATUS` that load the programs",
		"`CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, to load them and to probe",
		[]string{"ADD", "STATUS"}, false, []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN"},
	},
}

func TestTheDocumentHasTheCapabilitiesOfEachCall(t *testing.T) {
	text, err := os.ReadFile("../../docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range needs {
		if row := "| " + n.calls + " | " + n.text + " |"; !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/SECURITY.md has no row\n%s", row)
		}
	}
}

// A call by root succeeds with exactly the capabilities of its row. Another user also needs CAP_DAC_OVERRIDE
// if root has loaded the programs, because the state belongs to root. Without one of them the error of the
// call names it, and the failure is not remembered.
func TestEachCallNeedsExactlyTheDocumentedCapabilities(t *testing.T) {
	path := forEverybody(t)
	for _, uid := range []int{0, 12345} {
		for _, n := range needs {
			for _, verb := range n.verbs {
				l := limited{uid, n.wanted(t)}
				if uid != 0 && verb != "VERSION" {
					if !n.loaded {
						continue // the state would be that user's, which root's programs refuse
					}
					l.caps = append(slices.Clone(n.caps), "CAP_DAC_OVERRIDE")
				}
				t.Run(l.String()+" "+verb, func(t *testing.T) { n.try(t, l, path, verb) })
			}
		}
	}
}

func (n *need) try(t *testing.T, l limited, path, verb string) {
	w := newWorld(t)
	old, pod := w.pod(), w.pod()
	if n.loaded {
		w.mustAdd(old, keys{"required": true})
	}
	call := func(caps []string) answer {
		on, change := pod, keys{"required": true}
		switch verb {
		case "VERSION", "STATUS":
			on = nil
		case "CHECK", "DEL":
			on = old
		case "GC":
			on, change["cni.dev/valid-attachments"] = nil, []any{}
		}
		return limited{l.uid, caps}.run(t, path, env(verb, on), w.conf(on, change))
	}
	for _, missing := range l.caps {
		a := call(slices.DeleteFunc(slices.Clone(l.caps), func(c string) bool { return c == missing }))
		text := a.stderr // of a DEL, which never fails for this
		if verb != "DEL" {
			text = a.err.Error()
		}
		if !strings.Contains(text, missing) || !strings.Contains(text, "run as root") {
			t.Errorf("without %s: %s; want that it is named, and the way out", missing, text)
		}
	}
	if a := call(l.caps); a.err != nil || strings.Contains(a.stderr, "level=WARN") {
		t.Fatalf("%v: %v\n%s", l, a.err, a.stderr)
	}
	switch verb {
	case "ADD":
		if n.loaded {
			w.expectAccelerated(old, pod)
		} else {
			w.expectAccelerated(pod)
		}
	case "DEL", "GC":
		w.expectAccelerated()
	}
}

func TestInputIsRefusedWithoutACapability(t *testing.T) {
	path, w := forEverybody(t), newWorld(t)
	p := w.pod()
	for _, uid := range []int{0, 12345} {
		for name, c := range map[string]struct {
			p     *lab.Pod
			stdin []byte
			code  uint
		}{
			"no JSON":    {p, []byte("{"), types.ErrDecodingFailure},
			"wrong type": {p, w.conf(p, keys{"acceptHazards": 7}), types.ErrInvalidNetworkConfig},
		} {
			if a := (limited{uid, nil}).run(t, path, env("ADD", c.p), c.stdin); a.err == nil || a.err.Code != c.code {
				t.Errorf("uid %d, %s: %v, want code %d", uid, name, a.err, c.code)
			}
		}
	}
}
