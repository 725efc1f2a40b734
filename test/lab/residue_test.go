// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func residue(t *testing.T, name string) []string {
	t.Helper()
	left, err := lab.Residue(name)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestCloseLeavesNothing(t *testing.T) {
	name := labtest.Name() + "close-"
	ctx, cancel := context.WithCancel(t.Context())
	n, err := lab.NewNode(ctx, lab.Options{Name: name, BinDir: labtest.Reference(t)})
	if err != nil {
		t.Fatal(err)
	}
	furnish(t, n)
	cancel() // as on Ctrl-C
	if left := residue(t, name); len(left) == 0 {
		t.Error("Residue does not see a node that is in use")
	}
	for range 2 {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if left := residue(t, name); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := n.NewPod(t.Context(), lab.PodSpec{}); err == nil {
		t.Error("a pod was made on a closed node")
	}
	if _, err := n.External(t.Context(), "late"); err == nil {
		t.Error("a host was joined to a closed node")
	}
}

func TestCloseWaitsForPodsBeingCreated(t *testing.T) {
	bin := t.TempDir()
	slow := "#!/bin/sh\n[ $CNI_COMMAND = DEL ] || exec sleep 1000\n"
	if err := os.WriteFile(filepath.Join(bin, "slow"), []byte(slow), 0o755); err != nil {
		t.Fatal(err)
	}
	n := labtest.NewNode(t, lab.Options{BinDir: bin})
	ctx, cancel := context.WithCancel(t.Context())
	made := make(chan error, 1)
	conflist := []byte(`{"cniVersion": "1.0.0", "name": "s", "plugins": [{"type": "slow"}]}`)
	go func() {
		_, err := n.NewPod(ctx, lab.PodSpec{UID: "slow", Conflist: conflist})
		made <- err
	}()
	fixture.Wait(t, "the plugin is started", func() bool {
		return len(processes(t, filepath.Join(n.CgroupPath(), "runtime"))) > 0
	})
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-made; !errors.Is(err, context.Canceled) && !strings.Contains(fmt.Sprint(err), "killed") {
		t.Errorf("NewPod() = %v, want it killed", err)
	}
}

func processes(t *testing.T, cgroup string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// furnish makes something of every kind on the node.
func furnish(t *testing.T, n *lab.Node) {
	t.Helper()
	conflist := labtest.Conflist(t, n, lab.Network{Base: []byte(reference), Subnets: dualStack})
	labtest.NewPod(t, n, lab.PodSpec{Conflist: conflist})
	p := labtest.NewPod(t, n, lab.PodSpec{Conflist: conflist})
	h, err := n.External(t.Context(), "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []*lab.Place{&n.Place, &p.Place, &h.Place} {
		// A child of a child, which only its cgroup leads to.
		if err := place.Start(exec.Command("sh", "-c", "sleep 1000 & sleep 1000")); err != nil {
			t.Fatal(err)
		}
	}
}

// childEnv is the environment variable that makes this test the process that is killed.
const childEnv = "LAB_TEST_NODE_NAME"

func TestKilledProcessLeavesWhatReapRemoves(t *testing.T) {
	if name := os.Getenv(childEnv); name != "" {
		n, err := lab.NewNode(t.Context(), lab.Options{Name: name, BinDir: labtest.Reference(t)})
		if err != nil {
			t.Fatal(err)
		}
		furnish(t, n)
		fmt.Println(n.ID())
		fixture.Elapse(time.Minute, "lives until it is killed, or for a minute")
		return
	}
	name := labtest.Name() + "killed-"
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // if it was not
		if err := lab.Reap(name); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	id := strings.TrimSpace(line)
	if err != nil || !strings.HasPrefix(id, lab.Prefix+name) {
		t.Fatalf("the child printed %q, %v", line, err)
	}

	before := residue(t, name)
	if err := lab.Reap(name); err != nil {
		t.Error(err)
	}
	if after := residue(t, name); !slices.Equal(before, after) {
		t.Errorf("Reap has changed a node in use to\n%q\nfrom\n%q", after, before)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	left := strings.Join(residue(t, name), "\n")
	for _, want := range []string{
		"nsfs mount /run/" + id + "/netns/node", "nsfs mount /run/" + id + "/netns/host0",
		"bpf mount /run/" + id + "/bpf", "directory /run/" + id, "/" + id + "\n",
	} {
		if !strings.Contains(left+"\n", want) {
			t.Errorf("Residue lists\n%s\nwithout %s", left, want)
		}
	}
	if err := lab.Reap(name); err != nil {
		t.Error(err)
	}
	if left := residue(t, name); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
