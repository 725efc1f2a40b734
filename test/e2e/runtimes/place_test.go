// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func cacheDir(t *testing.T) string {
	t.Helper()
	root, err := lab.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, ".cache")
}

// program is the path of one of this module's programs, or of a runtime's that is built from source.
func program(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(cacheDir(t), "runtimes", "bin")
	if err := buildPrograms(bin); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(bin, name)
}

var built sync.Map // functions that build, by directory

// buildPrograms builds into a directory that remains, so that the next process finds the programs there.
func buildPrograms(bin string) error {
	once, _ := built.LoadOrStore(bin, sync.OnceValue(func() error {
		if err := build(bin, ".", "./cmd/...", "github.com/containernetworking/cni/cnitool"); err != nil {
			return err
		}
		return build(bin, "multus", "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus")
	}))
	return once.(func() error)()
}

func build(bin, module string, packages ...string) error {
	args := append([]string{"build", "-C", module, "-trimpath", "-ldflags=-s -w", "-o", bin + "/"}, packages...)
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w:\n%s", strings.Join(packages, " "), err, out)
	}
	return nil
}

// version is the version of the module from which a program was built.
func version(t *testing.T, name, module string) string {
	t.Helper()
	out, err := exec.Command("go", "version", "-m", program(t, name)).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if w := strings.Fields(line); len(w) >= 3 && (w[0] == "dep" || w[0] == "mod") && w[1] == module {
			return w[2]
		}
	}
	t.Fatalf("%s was not built from %s", name, module)
	return ""
}

func cgroupID(t *testing.T, dir string) uint64 {
	t.Helper()
	f, id, err := cgroup.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return id
}

func cgroupMount(t *testing.T) string {
	t.Helper()
	m, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	return m.Path
}

// pod makes a sandbox without a network.
func (w *world) pod(spec lab.PodSpec) *lab.Pod {
	w.Helper()
	return labtest.NewPod(w.T, w.node, spec)
}

// request is the kubelet's request to the runtime for a pod.
func request(p *lab.Pod, parent string) ask.Request {
	s := p.Spec()
	return ask.Request{
		Namespace: s.Namespace, Name: s.Name, UID: s.UID, ID: s.ContainerID, NetNS: p.NetNS(),
		CgroupParent: parent, Annotations: s.Annotations,
	}
}

// confines is a mount namespace for the files that a runtime keeps at fixed paths, and removes them with it:
// /var/lib and /run, of which only the node's directory is the host's, and /dev/shm. Later mounts of the host
// are not visible there.
const confines = `set -e
mount --rbind "$1" "$2"
mount -t tmpfs tmpfs /run
mkdir -p "$1"
mount --rbind "$2" "$1"
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /dev/shm
%s
echo ready
exec sleep infinity`

// confine starts a process that holds such a namespace and returns the command to be put before others. more
// is a piece of shell that runs inside.
func (w *world) confine(more string, flags ...string) (prefix []string) {
	w.Helper()
	keep := filepath.Join(w.temp, "keep")
	if err := os.MkdirAll(keep, 0o755); err != nil {
		w.Fatal(err)
	}
	args := append([]string{"--mount", "--propagation", "private"}, flags...)
	args = append(args, "sh", "-c", fmt.Sprintf(confines, more), "sh", w.node.Dir(), keep)
	cmd := w.node.Command(w.Context(), "unshare", args...)
	cmd.Stderr = logger{w.T}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := w.node.Start(cmd); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		w.Fatalf("confine the runtime: %q, %v", line, err)
	}
	return []string{"nsenter", "--target", fmt.Sprint(cmd.Process.Pid), "--mount"}
}

// start starts a runtime of cmd/runtime by the command that confine returned. Its pods must exist already.
func (w *world) start(kind string, setup ask.Setup, prefix ...string) *daemon {
	w.Helper()
	told, err := json.Marshal(setup)
	if err != nil {
		w.Fatal(err)
	}
	args := append(prefix[:len(prefix):len(prefix)], program(w.T, "runtime"), kind, string(told))
	cmd := w.node.Command(w.Context(), args[0], args[1:]...)
	cmd.Stderr = logger{w.T}
	in, err := cmd.StdinPipe()
	if err != nil {
		w.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := w.node.Start(cmd); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &daemon{w, in, json.NewDecoder(out)}
}
