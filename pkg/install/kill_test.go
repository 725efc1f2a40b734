// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// mostSteps bounds the loops over steps. No call has nearly as many.
const mostSteps = 40

// kind is a way in which a node can be installed.
type kind struct {
	name   string
	file   string
	text   string
	dropIn bool
}

var kinds = []kind{
	{"list", conflists[0].file, conflists[0].text, false},
	{"conf", singles[0].file, singles[0].text, false},
	{"drop-in", conflists[0].file, conflists[0].text, true},
}

// place makes a node of this kind, which is not installed. before is what its networks' directory has.
func (k kind) place(t *testing.T) (p *place, before map[string]string) {
	t.Helper()
	p = newPlace(t)
	p.DropIn = k.dropIn
	p.write(k.file, k.text)
	return p, tree(t, p.ConfDir)
}

func (p *place) call(verb string, kill int) call {
	return call{
		Verb: verb, Source: p.Source, BinDir: p.BinDir, ConfDir: p.ConfDir, DropIn: p.DropIn, CacheDir: p.cache,
		Kill: kill,
	}
}

// names are the names in a tree: the content of binaries is too long to print.
func names(trees ...map[string]string) []string {
	var all []string
	for _, tree := range trees {
		for name := range tree {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// firstAlways fails unless runtimes find a network to load in dir, and its plugins exist.
func firstAlways(t *testing.T, p *place, what string) {
	t.Helper()
	_, _, types := loadedFirst(t, p.ConfDir)
	if slices.Contains(types, PluginType) {
		if err := checkAnswers(t.Context(), p.Binary()); err != nil {
			t.Errorf("%s: the network has the plugin, which does not answer: %v", what, err)
		}
	}
}

// eachKill kills verb at each step, on each kind of node, which it prepares before. Then it uninstalls, and
// half of the times it installs before that, and calls installed. In the end no trace may be left.
func eachKill(t *testing.T, verb string, prepare func(p *place), installed func(p *place, what string)) {
	t.Helper()
	for _, kind := range kinds {
		for _, next := range []string{"install", "uninstall"} {
			for step := 1; ; step++ {
				if step > mostSteps {
					t.Fatal("it never ends")
				}
				p, before := kind.place(t)
				prepare(p)
				if !p.call(verb, step).killed(t) {
					break // there is no such step
				}
				what := fmt.Sprintf("%s, killed at step %d, then %s", kind.name, step, next)
				firstAlways(t, p, what)
				if next == "install" {
					p.install()
					installed(p, what)
				}
				p.uninstall()
				p.expectTree(what, before)
				if left := names(tree(t, p.BinDir)); !slices.Equal(left, []string{"."}) {
					t.Errorf("%s: left in the directory of plugins: %q", what, left)
				}
			}
		}
	}
}

func TestKilledInstallIsCompletedOrUndoneByNextCall(t *testing.T) {
	eachKill(t, "install", func(*place) {}, func(p *place, what string) {
		_, _, types := loadedFirst(t, p.ConfDir)
		if types[len(types)-1] != PluginType {
			t.Errorf("%s: plugins are %q", what, types)
		}
		p.expectNoLeftovers()
	})
}

func TestKilledUninstallIsCompletedOrUndoneByNextCall(t *testing.T) {
	var before map[string]string
	prepare := func(p *place) {
		p.install()
		before = tree(t, p.ConfDir)
	}
	eachKill(t, "uninstall", prepare, func(p *place, what string) {
		p.expectTree(what, before)
		p.expectBinary()
	})
}

var errAbort = errors.New("aborted by the test")

func TestAFailureAtAnyStepLeavesANetworkAndNoTemporaryFiles(t *testing.T) {
	for _, kind := range kinds {
		for step := 1; ; step++ {
			if step > mostSteps {
				t.Fatal("it never ends")
			}
			p, before := kind.place(t)
			n := 0
			p.Step = func(string) error {
				if n++; n == step {
					return errAbort
				}
				return nil
			}
			_, err := p.InstallBinary(t.Context())
			if err == nil {
				_, err = p.Chain(t.Context())
			}
			if err == nil {
				break
			}
			if !errors.Is(err, errAbort) {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s, failed at step %d", kind.name, step)
			firstAlways(t, p, what)
			p.expectNoLeftovers()
			p.Step = nil
			p.install()
			p.uninstall()
			p.expectTree(what, before)
		}
	}
}

// Kills between steps as well.
func TestKillsAtRandomMoments(t *testing.T) {
	for n := range 24 {
		kind := kinds[n%len(kinds)]
		p, before := kind.place(t)
		cmd := p.call("install", 0).command(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fixture.Elapse(time.Duration(n)*4*time.Millisecond,
			"another moment of the call each time, at which it is killed")
		cmd.Process.Kill()
		cmd.Wait()
		firstAlways(t, p, kind.name)
		p.install()
		p.expectBinary()
		p.uninstall()
		p.expectTree(kind.name, before)
	}
}

func TestConcurrentInstallsHaveOneResult(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			p, _ := kind.place(t)
			single, _ := kind.place(t)
			single.install()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if out, err := p.call("install", 0).command(t).CombinedOutput(); err != nil {
						t.Errorf("%v %s", err, out)
					}
				})
			}
			wg.Wait()
			p.expectTree("installed by eight", tree(t, single.ConfDir))
			p.expectBinary()
		})
	}
}

// A .conf that its owner writes again replaces the one that was kept.
func TestConfThatIsWrittenAgainIsConvertedAgain(t *testing.T) {
	p := newPlace(t)
	p.write(singles[1].file, singles[1].text)
	p.install()
	newer := strings.Replace(singles[1].text, "}", `,"mtu":1}`, 1)
	p.write(singles[1].file, newer)
	before := newer
	c := p.install()
	if !c.Changed || !strings.Contains(string(c.After), `"mtu":1`) {
		t.Errorf("got %+v\n%s", c, c.After)
	}
	p.uninstall()
	if got := p.read(singles[1].file); got != before {
		t.Errorf("given back: %s", got)
	}
	if left := names(tree(t, p.ConfDir)); len(left) != 2 {
		t.Errorf("left: %q", left)
	}
}

func TestConvertedListThatOthersChangedIsKept(t *testing.T) {
	p := newPlace(t)
	p.write(singles[1].file, singles[1].text)
	c := p.install()
	list := filepath.Base(c.Path)
	text := string(c.After)
	at := strings.LastIndex(text, "\n  ]")
	p.write(list, text[:at]+`,{"type":"istio-cni"}`+text[at:])
	done := p.uninstall()
	if len(done.GivenBack) != 0 || len(done.Unchained) != 1 {
		t.Errorf("did %+v", done)
	}
	if diff := cmp.Diff([]string{".", list}, names(tree(t, p.ConfDir))); diff != "" {
		t.Error(diff)
	}
	_, _, types := loadedFirst(t, p.ConfDir)
	if !slices.Equal(types, []string{"terway", "istio-cni"}) {
		t.Errorf("plugins are %q", types)
	}
}

func TestAnEntryThatCannotBeTakenOutKeepsThePluginWorking(t *testing.T) {
	p := newPlace(t)
	p.write("10-a.conflist", conflists[0].text)
	p.install()
	broken := p.write("20-b.conflist", `{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"sockmap"}`)
	alone := p.write("30-c.conflist", `{"cniVersion":"1.0.0","name":"c","plugins":[{"type":"sockmap"}]}`)
	_, err := p.Uninstall(context.Background(), Removal{CacheDirs: []string{p.cache}})
	if err == nil || !strings.Contains(err.Error(), broken) || !strings.Contains(err.Error(), alone) {
		t.Errorf("got %v, want both files named", err)
	}
	p.expectBinary()
	if got := p.read("10-a.conflist"); got != conflists[0].text {
		t.Error("the file that could be changed was not")
	}
	if err := errors.Join(os.Remove(broken), os.Remove(alone)); err != nil {
		t.Fatal(err)
	}
	if done := p.uninstall(); !done.Binary {
		t.Errorf("then it did %+v", done)
	}
}
