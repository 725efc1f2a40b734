// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
	"golang.org/x/sys/unix"
)

// hostName means this machine's own kernel, as a value of -kernel and in results. It runs the same programs,
// without a guest.
const hostName = "host"

// runHost runs before all guests, because its timing is the only real one.
func (m matrix) runHost(ctx context.Context, im image) (*outcome, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("read the kernel's release: %w", err)
	}
	o := &outcome{Kernel: hostName, Release: unix.ByteSliceToString(name.Release[:]), begin: time.Now(),
		dir: filepath.Join(m.results, hostName)}
	// The rest of the release is a name that the builder of the kernel chose.
	o.Version = o.Release[:len(o.Release)-len(strings.TrimLeft(o.Release, "0123456789."))]
	release, err := own(ctx, o.dir)
	if err != nil {
		return nil, fmt.Errorf("make directory of results: %w", err)
	}
	defer release()
	for _, s := range programsOf(kernel.Wanted{Often: true, Arch: runtime.GOARCH}, im.specs) {
		r, err := o.runHere(ctx, im, s)
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", s.Name, err)
		}
		o.Programs = append(o.Programs, r)
		m.say("%s: %s: %v after %.1f s", hostName, s.Name, r.Status, r.Status.Took.Seconds())
	}
	o.finished, o.Took = true, time.Since(o.begin)
	return o, m.finish(o, nil)
}

// runHere runs a program as the guest's init does. The error is the host's; the program's own are in the
// result.
func (o *outcome) runHere(ctx context.Context, im image, s spec) (*result, error) {
	p := s.program(false)
	out := filepath.Join(o.dir, s.Name)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(out + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	r, begin := &result{Name: s.Name, Status: &frame.Status{}}, time.Now()
	cmd := exec.CommandContext(ctx, filepath.Join(im.tree(), p.Path), p.Args...)
	cmd.Dir = filepath.Join(im.repo, s.Test+s.Main)
	cmd.Env = append(append(os.Environ(), "VM_OUT="+out), s.Env...)
	cmd.Stdout = io.MultiWriter(log, &r.output)
	cmd.Stderr = cmd.Stdout
	// At its limit a Go program prints where it hangs.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 15 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	r.Status.Took, r.Status.TimedOut = time.Since(begin), ctx.Err() != nil
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		r.Status.Code = exit.ExitCode()
	} else if err != nil {
		r.Status.Error = err.Error()
	}
	return r, nil
}
