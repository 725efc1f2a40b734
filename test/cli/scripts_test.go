// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
	"golang.org/x/tools/txtar"
	"rsc.io/script"
	"rsc.io/script/scripttest"
)

// TestScripts runs testdata/*.txt, each on a bpffs of its own, with the files that follow it (txtar) in
// $WORK. The commands of the language are described below.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	state := filepath.Join(n.dir, fmt.Sprintf("v%d", datapath.ABI))
	vars := []string{"DIR=" + n.dir, "STATE=" + state, "PLUGIN=" + filepath.Join(programs.plugin, "sockmap")}
	s, err := script.NewState(t.Context(), t.TempDir(), vars)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.ExtractFiles(archive), s.Setenv("WORK", s.Getwd())); err != nil {
		t.Fatal(err)
	}
	e := script.NewEngine()
	all := scripttest.DefaultCmds()
	e.Cmds = map[string]script.Cmd{
		"stdout": all["stdout"], "stderr": all["stderr"], "mkdir": all["mkdir"], "rm": all["rm"],
		"exists": all["exists"], "cp": all["cp"], "cmp": all["cmp"], "grep": all["grep"],
		"sockmapctl": ctlCommand(n), "exits": exitsCommand(n), "golden": goldenCommand(t),
		"cgroup": cgroupCommand(t), "rmcgroup": rmcgroupCommand(), "kernel": kernelCommand(n),
		"otherprograms": otherProgramsCommand(n), "oldpod": oldPodCommand(t), "conflist": conflistCommand(),
		"cripod": new(runtimeOf).podCommand(t),
	}
	scripttest.Run(t, e, s, file, bytes.NewReader(archive.Comment))
}

func waiting(r result, err error) (script.WaitFunc, error) {
	return func(*script.State) (stdout, stderr string, _ error) { return r.stdout, r.stderr, err }, nil
}

// sockmapctl ARG...: run it; an exit code other than 0 is a failure.
func ctlCommand(n *node) script.Cmd {
	usage := script.CmdUsage{Summary: "run sockmapctl", Args: "arg..."}
	return script.Command(usage, func(s *script.State, args ...string) (script.WaitFunc, error) {
		return n.expect(s, 0, args)
	})
}

// exits CODE ARG...: run sockmapctl, which must end with this exit code.
func exitsCommand(n *node) script.Cmd {
	usage := script.CmdUsage{Summary: "run sockmapctl and expect an exit code", Args: "code arg..."}
	return script.Command(usage, func(s *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) == 0 {
			return nil, script.ErrUsage
		}
		want, err := strconv.Atoi(args[0])
		if err != nil {
			return nil, err
		}
		return n.expect(s, want, args[1:])
	})
}

func (n *node) expect(s *script.State, code int, args []string) (script.WaitFunc, error) {
	r, err := n.run(s.Context(), args...)
	if err == nil && r.code != code {
		err = fmt.Errorf("exit code %d, want %d", r.code, code)
	}
	return waiting(r, err)
}

// golden FILE: the output of the last command is the content of this file, except for the parts that vary.
func goldenCommand(t *testing.T) script.Cmd {
	usage := script.CmdUsage{Summary: "compare the last output with a file", Args: "file"}
	return script.Command(usage, func(s *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) != 1 {
			return nil, script.ErrUsage
		}
		golden.Check(t, filepath.Join("testdata", args[0]), steady(s.Stdout()))
		return nil, nil
	})
}

// cgroup NAME: make one; $NAME is its path, $NAME_ID its id and $NAME_BELOW its path below the mount.
func cgroupCommand(t *testing.T) script.Cmd {
	usage := script.CmdUsage{Summary: "make a cgroup", Args: "name"}
	return script.Command(usage, func(s *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) != 1 {
			return nil, script.ErrUsage
		}
		path, err := os.MkdirTemp(fixture.CgroupMount(t), "sockmapctl-test-")
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("remove cgroup: %v", err)
			}
		})
		dir, id, err := cgroup.Open(path)
		if err != nil {
			return nil, err
		}
		return nil, errors.Join(
			dir.Close(), s.Setenv(args[0], path), s.Setenv(args[0]+"_ID", fmt.Sprint(id)),
			s.Setenv(args[0]+"_BELOW", filepath.Base(path)),
		)
	})
}

// kernel PRESENT [GUARDED]: later loads find these hazards, independent of the kernel of the test; "broken":
// they fail.
func kernelCommand(n *node) script.Cmd {
	usage := script.CmdUsage{Summary: "say which hazards loads find", Args: "present [guarded]"}
	return script.Command(usage, func(_ *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) == 0 || len(args) > 2 {
			return nil, script.ErrUsage
		}
		n.hazards = strings.Join(args, " ")
		return nil, nil
	})
}

// otherprograms: the loaded programs count as those of another version from now on.
func otherProgramsCommand(n *node) script.Cmd {
	usage := script.CmdUsage{Summary: "take what is loaded for other programs"}
	return script.Command(usage, func(*script.State, ...string) (script.WaitFunc, error) {
		pin := filepath.Join(n.dir, fmt.Sprintf("v%d", datapath.ABI), "programs")
		return nil, errors.Join(os.Remove(pin), os.Symlink("sha256:of another version", pin))
	})
}

// rmcgroup PATH: remove it.
func rmcgroupCommand() script.Cmd {
	usage := script.CmdUsage{Summary: "remove a cgroup", Args: "path"}
	return script.Command(usage, func(_ *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) != 1 {
			return nil, script.ErrUsage
		}
		return nil, os.Remove(args[0])
	})
}
