// SPDX-License-Identifier: Apache-2.0

package crinode

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// Daemon is a process of a runtime with its own directories, in the network namespace of a node of the lab:
// bridges and rules are made there, and disappear with it.
type Daemon struct {
	Node    *lab.Node
	Dir     string // directory of all its files, removed with the node
	runtime *Runtime
	cmd     *exec.Cmd
	exited  chan error
	log     *os.File
}

// newDaemon makes the directories: those of each runtime, and dirs.
func (r *Runtime) newDaemon(t *testing.T, node *lab.Node, dirs ...string) *Daemon {
	t.Helper()
	d := &Daemon{Node: node, Dir: filepath.Join(node.Dir(), "c"), runtime: r}
	for _, sub := range append([]string{"bin", "net.d", "logs"}, dirs...) {
		if err := os.MkdirAll(filepath.Join(d.Dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// Socket is where it must listen for the CRI.
func (d *Daemon) Socket() string { return filepath.Join(d.Dir, "cri.sock") }

// WriteFiles writes its configuration: contents, by the names of files in Dir.
func (d *Daemon) WriteFiles(t *testing.T, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(d.Dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Begin opens its log, before the first Start. It is stopped at the end of the test.
func (d *Daemon) Begin(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(d.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	d.log = log
	t.Cleanup(func() { d.end(t) })
}

// Start starts it, for the first time or again, with an addition to the environment, and waits until it is
// ready.
func (d *Daemon) Start(t *testing.T, ready func() bool, env string, args ...string) {
	t.Helper()
	// Not the test's context: it outlives the test's end while the pods are removed.
	cmd := d.Node.Command(context.Background(), filepath.Join(d.runtime.Dir, d.runtime.Daemon), args...)
	cmd.Env = append(os.Environ(), env)
	cmd.Stdout, cmd.Stderr = d.log, d.log
	if err := d.Node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	d.cmd, d.exited = cmd, exited
	if !fixture.Within(time.Minute, func() bool {
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s has ended: %v\n%s", d.runtime.Name, err, d.tail())
		default:
		}
		return ready()
	}) {
		t.Fatalf("%s is not ready\n%s", d.runtime.Name, d.tail())
	}
}

// Stop sends it a signal and waits until it has ended. Containers, and what watches them, continue.
func (d *Daemon) Stop(t *testing.T, signal unix.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		t.Errorf("stop %s: %v", d.runtime.Name, err)
	}
	select {
	case err := <-d.exited:
		d.exited <- err
	case <-time.After(20 * time.Second):
		t.Errorf("%s does not end after a signal\n%s", d.runtime.Name, d.tail())
		_ = d.cmd.Process.Kill()
		d.exited <- <-d.exited
	}
}

// end stops it for good. The node kills the rest of its processes.
func (d *Daemon) end(t *testing.T) {
	t.Helper()
	if d.cmd != nil {
		d.Stop(t, unix.SIGTERM)
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", d.runtime.Name, d.tail())
	}
	d.log.Close()
}

// tail is the end of its log.
func (d *Daemon) tail() string {
	b, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8000):])
}
