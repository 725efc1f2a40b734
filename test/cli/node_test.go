// SPDX-License-Identifier: Apache-2.0

// Package cli runs scripts against the sockmapctl that users run. It is a module of its own, so that the
// libraries of the scripts are not in the product's go.mod.
package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// programs are directories with one program each: sockmapctl looks for the plugin in its own directory.
var programs struct{ ctl, plugin string }

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "sockmap-cli-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs.ctl, programs.plugin = filepath.Join(dir, "ctl"), filepath.Join(dir, "plugin")
	code := 1
	if err := errors.Join(build(programs.ctl, "sockmapctl", "-tags", "scripts"),
		build(programs.plugin, "sockmap")); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir, name string, flags ...string) error {
	args := append([]string{"build", "-o", filepath.Join(dir, name)}, flags...)
	cmd := exec.Command("go", append(args, "./plugin/"+name)...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", name, err, out)
	}
	return nil
}

// node is a state directory, and a sockmapctl that uses it.
type node struct {
	dir     string
	hazards string // hazards that loads find: PRESENT [GUARDED], or broken; see plugin/sockmapctl/scripts.go
	files   string // directory with proc and sys, where conntrack helpers are looked for
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{dir: filepath.Join(fixture.BPFFS(t), "sockmap"), files: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(n.files, "sys/module/kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r, err := n.run(context.Background(), "unload", "--force"); err != nil || r.code != 0 {
			t.Errorf("unload: %v, %+v", err, r)
		}
	})
	return n
}

type result struct {
	code           int
	stdout, stderr string
}

// run runs sockmapctl. The error is not that of an exit code.
func (n *node) run(ctx context.Context, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(programs.ctl, "sockmapctl"), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{
		"SOCKMAP_BPFFS_PATH=" + n.dir, "SOCKMAPCTL_TEST_HAZARDS=" + n.hazards, "SOCKMAPCTL_TEST_FILES=" + n.files,
		"PATH=" + os.Getenv("PATH"),
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		err = nil
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, err
}

// vary matches the parts of a screen that differ from run to run.
var vary = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`/tmp/\S*/sockmap\b`), "DIR"},
	{regexp.MustCompile(`\S*/sockmapctl-test-\d+`), "CGROUP"},
	{regexp.MustCompile(`\d+s ago`), "AGE ago"},
	{regexp.MustCompile(`(?m)^(others +).*`), "${1}WHOEVER-ELSE"},
	{regexp.MustCompile(`(?m)^(kernel +).*`), "${1}RELEASE"},
	{regexp.MustCompile(`(splice|observe|blocking|options) (not active: |active at ).*`), "$1 RUNS-OR-NOT"},
	{regexp.MustCompile(regexp.QuoteMeta(version.String())), "VERSION"},
}

func steady(screen string) string {
	for _, v := range vary {
		screen = v.from.ReplaceAllString(screen, v.to)
	}
	return screen
}
