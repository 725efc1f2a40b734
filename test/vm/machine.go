// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// parameters of every kernel.
var parameters = []string{
	"quiet",
	// At a panic QEMU exits, so that the host does not wait for a guest that hangs.
	"panic=-1", "oops=panic",
	// Emulated timer interrupts come late on a busy host. Lock-ups and stalls that are reported after these
	// limits are real.
	"watchdog_thresh=30", "rcupdate.rcu_cpu_stall_timeout=60",
}

// machine is a guest before it is turned on.
type machine struct {
	arch    arch
	kernel  kernel.Kernel
	initrd  string
	disk    string // image of a Debian root, empty for none
	results string // directory for its results
	qemu    qemu
	icount  bool
	boot    time.Duration // until init sends the first frame
	limit   time.Duration // for the whole run
}

// errNotBooted means that the guest died, or reached its limit, before init sent its first frame. No test has
// begun then, so a second try hides no failure.
var errNotBooted = errors.New("the guest did not boot")

// run boots the guest and collects its frames. The error is errNotBooted, or that of the context or the host.
func (m machine) run(ctx context.Context, progress func(format string, args ...any)) (*outcome, error) {
	release, err := own(ctx, m.results)
	if err != nil {
		return nil, fmt.Errorf("make directory of results: %w", err)
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("over its limit of %v", m.limit))
	defer cancel()
	ctx, silent := context.WithCancelCause(ctx)
	defer silent(nil)
	waiting := time.AfterFunc(m.boot, func() { silent(fmt.Errorf("silent for %v", m.boot)) })
	defer waiting.Stop()

	cmd := m.command(ctx)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", m.arch.emulator, err)
	}
	o := newOutcome(m, progress)
	readErr := o.collect(frame.NewReader(stdout), func() { waiting.Stop() })
	waitErr := cmd.Wait()
	o.readConsole(m.console())
	reason := ended(context.Cause(ctx), waitErr, readErr, stderr.String())
	if o.Release == "" {
		return o, fmt.Errorf("%w: %s\n%s", errNotBooted, reason, tail(o.console, 20))
	}
	if !o.finished {
		o.problem("the guest ended early, in %s: %s\n%s", o.running(), reason, tail(o.console, 5))
	}
	return o, nil
}

// ended explains why the guest has ended.
func ended(limit, emulator, reading error, stderr string) string {
	switch {
	case limit != nil:
		return limit.Error() // QEMU's output is then only that it was killed
	case emulator != nil:
		return strings.TrimSpace(emulator.Error() + "\n" + stderr)
	case reading != nil:
		return reading.Error()
	}
	return "it turned itself off"
}

// own makes a directory of results and locks it, and empties it: another run may use it, and results of an
// earlier run must not count for this one.
func own(ctx context.Context, dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l, err := lock.Exclusive(ctx, dir)
	if err != nil {
		return nil, err
	}
	old, err := os.ReadDir(dir)
	for _, entry := range old {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	if err != nil {
		return nil, errors.Join(err, l.Unlock())
	}
	return l.Unlock, nil
}

func (m machine) console() string {
	return filepath.Join(m.results, "console.log")
}

func (m machine) commandLine() string {
	return strings.Join(slices.Concat(parameters, m.arch.parameters, m.kernel.Parameters), " ")
}

func (m machine) command(ctx context.Context) *exec.Cmd {
	processors, clock := "2", []string{}
	if m.icount {
		// 1 ns for each instruction, none for waiting
		processors, clock = "1", []string{"-icount", "shift=0,sleep=off"}
	}
	cmd := exec.CommandContext(ctx, m.arch.emulator, slices.Concat(clock, diskArgs(m.disk), []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none",
		"-machine"}, m.arch.machine, []string{
		"-accel", m.qemu.accel, "-cpu", m.qemu.processorOf(m.arch, m.kernel.Version),
		"-smp", processors, "-m", "2048",
		"-kernel", m.kernel.Image(), "-initrd", m.initrd, "-append", m.commandLine(),
		// The kernel's messages and the frames use different serial lines, so that neither interrupts the
		// other.
		"-chardev", "file,id=console,path=" + m.console(), "-serial", "chardev:console",
		"-chardev", "stdio,id=results,signal=off"}, m.arch.results)...)
	// No guest outlives the process that started it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// tail is the last n lines of a text.
func tail(text string, n int) string {
	lines := strings.SplitAfter(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
