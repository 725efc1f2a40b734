// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// janitorVariable is the environment variable that gives the janitor the name of the nodes to remove.
const janitorVariable = "SOCKMAP_BENCH_JANITOR"

// NodeName is the name of all nodes of this process, and of no other process's nodes.
func NodeName() string { return fmt.Sprintf("bench%d-", os.Getpid()) }

// Main must be called first in a program that calls Watch: the janitor is the same program, and does not
// return from Main.
func Main() {
	name := os.Getenv(janitorVariable)
	if name == "" {
		return
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the process that started it ends
	if err := sweep(name); err != nil {
		fmt.Fprintln(os.Stderr, "janitor:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// sweep tries for ten seconds. When a process is killed, the janitor's pipe is closed a moment before the
// locks of the process's nodes are released.
func sweep(name string) (err error) {
	for range 100 {
		err = lab.Reap(name)
		left, listed := lab.Residue(name)
		if err = errors.Join(err, listed); err == nil && len(left) == 0 {
			return nil
		}
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("left behind: %v", left))
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// Watch starts the janitor: a process that removes everything that this process leaves when it is killed,
// including the servers in its containers. Call Watch before making a node. Call done after closing the last
// node; it ends the janitor and returns an error that lists what is left.
func Watch() (done func() error, err error) {
	j := exec.Command("/proc/self/exe")
	j.Env = append(os.Environ(), janitorVariable+"="+NodeName())
	j.Stderr = os.Stderr
	j.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C must not end the janitor
	open, err := j.StdinPipe()
	if err == nil {
		err = j.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the janitor: %w", err)
	}
	return func() error {
		left, err := lab.Residue(NodeName())
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("left behind: %v", left))
		}
		return errors.Join(err, open.Close(), j.Wait())
	}, nil
}
