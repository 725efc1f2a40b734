// SPDX-License-Identifier: Apache-2.0

// Package labtest is package lab for tests: an error ends the test, and everything is removed when the test
// ends.
package labtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

// buildTimeout is enough for a machine that builds everything for the first time.
const buildTimeout = 10 * time.Minute

// Each set of plugins is built once per process, because the sources do not change meanwhile.
var (
	buildAll       = sync.OnceValues(func() (string, error) { return build(lab.BuildPlugins) })
	buildReference = sync.OnceValues(func() (string, error) { return build(lab.BuildReference) })
)

// build builds into a directory that remains, so that the next process finds the programs there.
func build(into func(context.Context, string) error) (string, error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "lab")
	if os.Getenv(frame.GuestVariable) != "" {
		return dir, nil // a guest has no compiler; the programs were packed with the test
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	return dir, into(ctx, dir)
}

// Plugins builds all plugins that are missing or out of date, and returns their directory.
func Plugins(tb testing.TB) string {
	tb.Helper()
	dir, err := buildAll()
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// Reference is Plugins for tests that use no sockmap.
func Reference(tb testing.TB) string {
	tb.Helper()
	dir, err := buildReference()
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

const namePrefix = "test"

// Name is the prefix of the names of this process's nodes.
func Name() string { return fmt.Sprintf("%s%d-", namePrefix, os.Getpid()) }

// Main is Run for a package that has nothing more to do afterwards.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run runs the tests and fails if one of them has left something behind. First it removes what killed earlier
// processes left behind. The result is the code for os.Exit.
func Run(m *testing.M) (code int) {
	if err := lab.Reap(namePrefix); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	code = fixture.Run(m)
	left, err := lab.Residue(Name())
	if err != nil || len(left) > 0 {
		fmt.Fprintf(os.Stderr, "left behind: %v\n%s\n", err, strings.Join(left, "\n"))
		code = max(code, 1)
	}
	return code
}

// NewNode makes a node that is closed at the end of the test. Empty options get defaults: all plugins, and a
// log of the plugins' messages that a failed test prints.
func NewNode(tb testing.TB, o lab.Options) *lab.Node {
	tb.Helper()
	if o.BinDir == "" {
		o.BinDir = Plugins(tb)
	}
	if o.Log == nil {
		o.Log = logger{tb}
	}
	o.Name = Name() + o.Name
	n, err := lab.NewNode(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Errorf("close node: %v", err)
		}
	})
	return n
}

// NewPod makes a pod on n. Closing the node deletes the pod.
func NewPod(tb testing.TB, n *lab.Node, spec lab.PodSpec) *lab.Pod {
	tb.Helper()
	p, err := n.NewPod(tb.Context(), spec)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// Conflist makes a conflist for n.
func Conflist(tb testing.TB, n *lab.Node, w lab.Network) []byte {
	tb.Helper()
	b, err := n.Conflist(w)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// logger is used until the node is closed, which is before the test ends.
type logger struct{ tb testing.TB }

func (l logger) Write(b []byte) (int, error) {
	if b := bytes.TrimSpace(b); len(b) > 0 {
		l.tb.Logf("plugin: %s", b)
	}
	return len(b), nil
}

// Datapath opens the state that the plugins of a node have pinned, until the test ends.
func Datapath(tb testing.TB, n *lab.Node) *datapath.Datapath {
	tb.Helper()
	d, err := datapath.Open(n.BPFFS())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}
