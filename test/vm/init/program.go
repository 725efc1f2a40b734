// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"golang.org/x/sys/unix"
)

// dumpTime is how long a program that is over its time may take to print where it hangs: a Go program prints
// all its goroutines at SIGQUIT.
const dumpTime = 15 * time.Second

func (g guest) runProgram(p frame.Program) {
	out := filepath.Join(frame.OutRoot, p.Name)
	if err := os.MkdirAll(out, 0o755); err != nil {
		g.problem(err)
	}
	g.out.Send(frame.Frame{Kind: frame.Start, Program: p.Name})
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir = p.Dir
	cmd.Env = append(environment(), frame.GuestVariable+"=1", "VM_OUT="+out)
	cmd.Env = append(cmd.Env, p.Env...)
	cmd.Stdout = g.out.Stream(frame.Frame{Kind: frame.Output, Program: p.Name})
	cmd.Stderr = cmd.Stdout
	// A child that the program left running may hold its output open.
	cmd.WaitDelay = time.Second
	if p.Root {
		inRoot(cmd)
	}
	status := g.wait(cmd, p.Timeout)
	g.problem(killRest())
	g.problem(g.sendFiles(p.Name, out))
	g.out.Send(frame.Frame{Kind: frame.Exit, Program: p.Name, Status: &status})
}

func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
		"USER=root",
		"TMPDIR=/tmp", "LANG=C.UTF-8", "TERM=dumb", "CI=true"}
}

func (g guest) wait(cmd *exec.Cmd, limit time.Duration) (s frame.Status) {
	begin := time.Now()
	defer func() { s.Took = time.Since(begin) }()
	if err := cmd.Start(); err != nil {
		s.Error = err.Error()
		return s
	}
	over := time.AfterFunc(limit, func() { cmd.Process.Signal(syscall.SIGQUIT) })
	defer over.Stop()
	dead := time.AfterFunc(limit+dumpTime, func() { cmd.Process.Kill() })
	defer dead.Stop()
	err := cmd.Wait()
	s.TimedOut = time.Since(begin) >= limit
	if state := cmd.ProcessState; state != nil {
		s.Code = state.ExitCode()
		if ws := state.Sys().(syscall.WaitStatus); ws.Signaled() {
			s.Signal = ws.Signal().String()
		}
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) &&
		!errors.Is(err, exec.ErrWaitDelay) {
		s.Error = err.Error()
	}
	return s
}

// killRest kills the processes that a program left running, so that the next one finds an idle machine. For
// the first process, -1 means all others.
func killRest() error {
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill leftover processes: %w", err)
	}
	for {
		// Init is the parent of every orphan. No other wait for a child is running at this time.
		_, err := unix.Wait4(-1, nil, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for leftover processes: %w", err)
		}
	}
}

// sendFiles sends every regular file below dir by its path relative to it.
func (g guest) sendFiles(program, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		head := frame.Frame{Kind: frame.File, Program: program, Path: name}
		// An empty file must arrive, too.
		if err := g.out.Send(head); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(g.out.Stream(head), f)
		return err
	})
}
