// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/sys/unix"
)

// patience bounds every wait that is expected to succeed.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	fixture.Call(call.run)
	labtest.Main(m)
}

// call describes a process of this test binary that makes one call.
type call struct {
	Verb                    string // install or uninstall
	Source, BinDir, ConfDir string
	DropIn                  bool
	CacheDir                string
	Kill                    int // at the step with this number, from 1
}

func (c call) run() error {
	n := 0
	i := &Installer{Source: c.Source, BinDir: c.BinDir, ConfDir: c.ConfDir, DropIn: c.DropIn,
		Step: func(string) error {
			if n++; n == c.Kill {
				unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
			return nil
		}}
	var err error
	if i.Entry, err = NewEntry("", nil); err != nil {
		return err
	}
	if c.Verb == "uninstall" {
		_, err = i.Uninstall(context.Background(), Removal{CacheDirs: []string{c.CacheDir}})
		return err
	}
	if _, err = i.InstallBinary(context.Background()); err == nil {
		_, err = i.Chain(context.Background())
	}
	return err
}

func (c call) command(t testing.TB) *exec.Cmd {
	t.Helper()
	return fixture.Command(t, patience, c)
}

// killed reports whether the call was killed at its step. It is false if the call had ended before.
func (c call) killed(t testing.TB) bool {
	t.Helper()
	killed, err := fixture.Killed(c.command(t))
	if err != nil {
		t.Fatalf("%s was not killed at step %d: %v", c.Verb, c.Kill, err)
	}
	return killed
}

// place is a node's directories.
type place struct {
	testing.TB
	*Installer
	cache string
}

func plugin(t testing.TB) string { return filepath.Join(labtest.Plugins(t), PluginType) }

func newPlace(t testing.TB) *place {
	t.Helper()
	root := t.TempDir()
	p := &place{t, &Installer{
		Source: plugin(t), BinDir: filepath.Join(root, "bin"), ConfDir: filepath.Join(root, "net.d"),
		Entry: newEntry(t, ""),
	}, filepath.Join(root, "cache")}
	for _, dir := range []string{p.BinDir, p.ConfDir, filepath.Join(p.cache, "results")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *place) write(name, text string) string {
	p.Helper()
	path := filepath.Join(p.ConfDir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
	return path
}

func (p *place) read(name string) string {
	p.Helper()
	text, err := os.ReadFile(filepath.Join(p.ConfDir, name))
	if err != nil {
		p.Fatal(err)
	}
	return string(text)
}

func (p *place) install() Chained {
	p.Helper()
	if _, err := p.InstallBinary(p.Context()); err != nil {
		p.Fatal(err)
	}
	c, err := p.Chain(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	return c
}

func (p *place) uninstall() Removed {
	p.Helper()
	done, err := p.Uninstall(p.Context(), Removal{CacheDirs: []string{p.cache}})
	if err != nil {
		p.Fatal(err)
	}
	return done
}

// tree is everything below a directory: mode, owner and content of files. It leaves out the lock file, which
// stays until sockmap is uninstalled.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == lockName {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		what := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += "\n" + string(text)
		}
		name, err := filepath.Rel(dir, path)
		all[name] = what
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (p *place) expectTree(what string, want map[string]string) {
	p.Helper()
	if diff := cmp.Diff(want, tree(p.TB, p.ConfDir)); diff != "" {
		p.Errorf("%s: %s", what, diff)
	}
}

// expectNoLeftovers fails if there is any file that is neither a network configuration nor a binary.
func (p *place) expectNoLeftovers() {
	p.Helper()
	for _, dir := range []string{p.ConfDir, p.BinDir} {
		found, err := filepath.Glob(filepath.Join(dir, ".sockmap-*"))
		// stays until sockmap is uninstalled
		found = slices.DeleteFunc(found, func(path string) bool { return filepath.Base(path) == lockName })
		if err != nil || len(found) > 0 {
			p.Errorf("left behind: %v, %v", found, err)
		}
	}
}
