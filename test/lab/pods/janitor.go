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

// janitorVariable has the name of the nodes to remove, in the janitor's environment.
const janitorVariable = "SOCKMAP_BENCH_JANITOR"

// NodeName is the same for all nodes of one process, and no other process has it.
func NodeName() string { return fmt.Sprintf("bench%d-", os.Getpid()) }

// Main comes first in a program that calls Watch: the janitor is the same program, and does not return from here.
func Main() {
	name := os.Getenv(janitorVariable)
	if name == "" {
		return
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the one who started it ends
	if err := sweep(name); err != nil {
		fmt.Fprintln(os.Stderr, "janitor:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// sweep tries for ten seconds. A killed process closes the janitor's pipe a moment before it lets go of its nodes, which are
// in use until then.
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

// Watch starts a process that removes what this one leaves, with all the servers in its containers, when this one is
// killed. It is to be called before there is a node. After the last node was closed, done ends it, and tells what is left.
func Watch() (done func() error, err error) {
	j := exec.Command("/proc/self/exe")
	j.Env = append(os.Environ(), janitorVariable+"="+NodeName())
	j.Stderr = os.Stderr
	j.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends this process, such as Ctrl-C, is not for the janitor
	open, err := j.StdinPipe()
	if err == nil {
		err = j.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start who removes what is left: %w", err)
	}
	return func() error {
		left, err := lab.Residue(NodeName())
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("left behind: %v", left))
		}
		return errors.Join(err, open.Close(), j.Wait())
	}, nil
}
