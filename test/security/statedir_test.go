// SPDX-License-Identifier: Apache-2.0

package security

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

const nobody = 65534

// commons is a bpffs as mount -t bpf makes it without options: everybody may make directories there. It may
// contain a state directory.
type commons struct {
	*testing.T
	mount string
	node  *endpoint.Node
}

func newCommons(t *testing.T) *commons {
	t.Helper()
	mount := t.TempDir()
	if err := os.Chmod(filepath.Dir(mount), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", mount, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(mount, &st); err != nil || st.Mode&0o7777 != 0o1777 {
		t.Fatalf("its mode is %o, %v", st.Mode, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return &commons{t, mount, &endpoint.Node{
		Dir: filepath.Join(mount, "sockmap"),
		Settings: datapath.Settings{MaxSockets: 64, MaxBacklogBytes: 1 << 20, MaxBacklogMessages: 64,
			Version: "test"},
		LockTimeout: time.Second,
	}}
}

// asNobody runs a script as the user nobody, on the bpffs.
func (c *commons) asNobody(script string) (string, error) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = c.mount
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *commons) mustAsNobody(script string) {
	c.Helper()
	if out, err := c.asNobody(script); err != nil {
		c.Fatalf("the user nobody: %s: %q, %v", script, out, err)
	}
}

// refused expects that the existing directory is not used, and that the operator gets the reason.
func (c *commons) refused(words ...string) {
	c.Helper()
	ctx := context.Background()
	calls := map[string]func() error{
		"load":         func() error { _, err := c.node.Load(ctx); return err },
		"unload":       func() error { _, err := c.node.Unload(ctx, false); return err },
		"force unload": func() error { _, err := c.node.Unload(ctx, true); return err },
		"GC":           func() error { _, err := c.node.GC(ctx, "net", nil); return err },
		"upgrade":      func() error { _, err := c.node.ForceUpgrade(ctx); return err },
		"plan upgrade": func() error { _, err := c.node.PlanUpgrade(ctx); return err },
		"drain":        func() error { _, err := c.node.Drain(ctx); return err },
		"look":         func() error { _, err := datapath.Open(c.node.Dir); return err },
		"check":        func() error { return datapath.CheckDir(c.node.Dir) },
	}
	for name, call := range calls {
		err := call()
		if !errors.Is(err, datapath.ErrForeignState) {
			c.Errorf("%s: %v, want ErrForeignState", name, err)
			continue
		}
		for _, word := range append(words, c.node.Dir, "rm -r", "chmod 0700 "+c.mount) {
			if !strings.Contains(err.Error(), word) {
				c.Errorf("%s: %q does not have %q", name, err, word)
			}
		}
	}
}

// tree lists what is below a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func mkdirs(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinkInPlaceOfTheStateDirectoryIsRefused(t *testing.T) {
	c := newCommons(t)
	for _, victim := range []string{filepath.Join(t.TempDir(), "files"), filepath.Join(c.mount, "pins")} {
		mkdirs(t, filepath.Join(victim, "new-baby", "toys"), filepath.Join(victim, "v1"),
			filepath.Join(victim, "else"))
		before := tree(t, victim)
		c.mustAsNobody("ln -s " + victim + " sockmap")
		c.refused("symbolic link of uid 65534")
		if after := tree(t, victim); after != before {
			t.Errorf("%s became:\n%s", before, after)
		}
		c.mustAsNobody("rm sockmap")
	}
	c.mustAsNobody("ln -s /nonexistent sockmap")
	c.refused("symbolic link of uid 65534")
}

func TestDirectoryOfAnotherUserIsRefused(t *testing.T) {
	for _, mode := range []string{"777", "700", "755"} {
		t.Run(mode, func(t *testing.T) {
			c := newCommons(t)
			c.mustAsNobody("mkdir -m " + mode + " sockmap && mkdir sockmap/new-baby sockmap/v1")
			before := tree(t, c.mount)
			c.refused("directory of uid 65534")
			if after := tree(t, c.mount); after != before {
				t.Errorf("%s became:\n%s", before, after)
			}
			c.mustAsNobody("rm -r sockmap || rmdir sockmap/* sockmap")
			if _, err := c.node.Load(t.Context()); err != nil {
				t.Errorf("once it is gone: %v", err)
			}
		})
	}
}

// Root's own directory, into which others may have put files.
func TestDirectoryThatOthersCanWriteToIsRefused(t *testing.T) {
	for _, mode := range []fs.FileMode{0o777, 0o730} {
		c := newCommons(t)
		mkdirs(t, c.node.Dir)
		if err := os.Chmod(c.node.Dir, mode); err != nil {
			t.Fatal(err)
		}
		c.refused(fmt.Sprintf("directory of mode %04o", mode))
	}
}

func TestOtherUsersCannotChangeTheLoadedState(t *testing.T) {
	c := newCommons(t)
	// As if somebody had made it with mkdir.
	mkdirs(t, c.node.Dir)
	if err := os.Chmod(c.node.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := c.node.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := tree(t, c.mount)
	state := fmt.Sprintf("sockmap/v%d", datapath.ABI)
	for what, script := range map[string]string{
		"remove":              "rmdir sockmap",
		"rename":              "mv -T sockmap mine",
		"replace":             "mkdir mine && mv -T mine sockmap; e=$?; rmdir mine; exit $e",
		"another version":     "mv -T " + state + " sockmap/v7",
		"remove the links":    "rmdir " + state + "/links",
		"remove a pin":        "rm -f " + state + "/config && ! test -e sockmap",
		"put something there": "mkdir sockmap/new-baby",
		"see":                 "ls sockmap",
		"hold the lock":       "flock -n sockmap true",
		"share the lock":      "flock -n -s sockmap true",
		"calls' lock":         "flock -n " + state + "/links true",
	} {
		if out, err := c.asNobody(script); err == nil {
			t.Errorf("%s: the user nobody did %q: %s", what, script, out)
		}
	}
	if after := tree(t, c.mount); after != before {
		t.Errorf("%s became:\n%s", before, after)
	}
	if _, err := c.node.Unload(t.Context(), false); err != nil {
		t.Errorf("unload: %v", err)
	}
}

// Without the sticky bit others can rename root's directory at any moment. Operations in progress stay in it.
func TestUnloadStaysInADirectoryThatIsRenamed(t *testing.T) {
	for _, force := range []bool{false, true} {
		c := newCommons(t)
		if err := os.Chmod(c.mount, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := c.node.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		victim := filepath.Join(c.mount, "victim")
		mkdirs(t, filepath.Join(victim, "new-baby"), filepath.Join(victim, "v1"))
		before := tree(t, victim)
		c.node.Step = func(name string) error {
			if name == "unload" {
				c.mustAsNobody("mv -T sockmap old && ln -s victim sockmap")
			}
			return nil
		}
		_, err := c.node.Unload(t.Context(), force)
		if after := tree(t, victim); after != before {
			t.Errorf("unload, force %v: %v; %s became:\n%s", force, err, before, after)
		}
		if left, err := os.ReadDir(filepath.Join(c.mount, "old")); err != nil || len(left) > 0 {
			t.Errorf("left of the loaded state: %v, %v", left, err)
		}
	}
}
