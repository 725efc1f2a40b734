// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/golden"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/tools/txtar"
	"rsc.io/script"
	"rsc.io/script/scripttest"
)

// TestScripts runs testdata/*.txt, each on a bpffs of its own, with the files that follow it (txtar) in $WORK. What the
// commands of the language do is said below.
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
	n := newTestNode(t)
	state := filepath.Join(n.dir, fmt.Sprintf("v%d", datapath.ABI))
	vars := []string{"DIR=" + n.dir, "STATE=" + state, "PLUGIN=" + filepath.Join(labtest.Plugins(t), "sockmap")}
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
		"sockmapctl": ctlCommand(t, n), "exits": exitsCommand(t, n), "golden": goldenCommand(t),
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
func ctlCommand(t *testing.T, n *testNode) script.Cmd {
	usage := script.CmdUsage{Summary: "run sockmapctl", Args: "arg..."}
	return script.Command(usage, func(_ *script.State, args ...string) (script.WaitFunc, error) {
		r := n.run(t, args...)
		if r.code != exitOK {
			return waiting(r, fmt.Errorf("exit code %d", r.code))
		}
		return waiting(r, nil)
	})
}

// exits CODE ARG...: run sockmapctl, which must end with this exit code.
func exitsCommand(t *testing.T, n *testNode) script.Cmd {
	usage := script.CmdUsage{Summary: "run sockmapctl and expect an exit code", Args: "code arg..."}
	return script.Command(usage, func(_ *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) == 0 {
			return nil, script.ErrUsage
		}
		want, err := strconv.Atoi(args[0])
		if err != nil {
			return nil, err
		}
		r := n.run(t, args[1:]...)
		if r.code != want {
			return waiting(r, fmt.Errorf("exit code %d, want %d", r.code, want))
		}
		return waiting(r, nil)
	})
}

// golden FILE: what the last command printed is in this file, but for what varies.
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
		g := newGroup(t)
		return nil, errors.Join(
			s.Setenv(args[0], g.path), s.Setenv(args[0]+"_ID", fmt.Sprint(g.id)),
			s.Setenv(args[0]+"_BELOW", filepath.Base(g.path)),
		)
	})
}

// kernel PRESENT [GUARDED]: loads from now on find these hazards, whatever kernel the test runs on; "broken": they fail.
func kernelCommand(n *testNode) script.Cmd {
	usage := script.CmdUsage{Summary: "say which hazards loads find", Args: "present [guarded]"}
	return script.Command(usage, func(_ *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) == 0 || len(args) > 2 {
			return nil, script.ErrUsage
		}
		var sets [2]hazard.Set
		for i, names := range args {
			sets[i] = hazard.SetOf(strings.Split(names, ",")...)
		}
		n.probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
			if args[0] == "broken" {
				return 0, 0, errors.New("the probe is broken")
			}
			return uint32(sets[0]), uint32(sets[1]), nil
		}
		return nil, nil
	})
}

// otherprograms: what is loaded is from now on taken for the programs of another version.
func otherProgramsCommand(n *testNode) script.Cmd {
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
