// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

// A Process is a program that a run has started.
type Process struct {
	*exec.Cmd
	t      *T
	done   chan struct{}
	err    error
	stdout output
	stderr output
}

// scaleEnv passes the scale of times on this machine to roles of this program.
const scaleEnv = "CONFORMANCE_SCALE"

// ChildScaled is T.Scaled for programs that a run has started.
func ChildScaled(d time.Duration) time.Duration {
	scale, err := strconv.ParseFloat(os.Getenv(scaleEnv), 64)
	if err != nil {
		return d
	}
	return time.Duration(float64(d) * scale)
}

// output may be read while the program writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// A Command is a program to start.
type Command struct {
	Name  string
	Args  []string
	Env   []string // besides this process's
	Files []*Sock  // descriptors 3, 4, ...
	Stdin []byte
}

// Start starts a program at side. It is killed after the run at the latest.
func (t *T) Start(side place.Side, c Command) *Process {
	p := &Process{Cmd: t.Place.Command(t.Context, c.Name, c.Args...), t: t, done: make(chan struct{})}
	p.Env = append(append(os.Environ(), c.Env...), fmt.Sprintf("%s=%g", scaleEnv, t.scale))
	p.Stdin, p.Stdout, p.Stderr = bytes.NewReader(c.Stdin), &p.stdout, &p.stderr
	// It gets a process group of its own, because servers have children that would outlive them.
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, f := range c.Files {
		// O_NONBLOCK is a property of the open file, which os.NewFile does not change. The duplicate is
		// closed when the child has its own.
		fd, err := unix.FcntlInt(uintptr(f.FD), unix.F_DUPFD_CLOEXEC, 0)
		t.Check(err, "duplicate descriptor")
		dup := os.NewFile(uintptr(fd), "inherited")
		defer dup.Close()
		p.ExtraFiles = append(p.ExtraFiles, dup)
	}
	// Not on this thread, because the program would inherit its blocked signals.
	started := make(chan error)
	go func() {
		err := t.Place.Start(side, p.Cmd)
		started <- err
		if err == nil {
			p.err = p.Cmd.Wait()
		}
		close(p.done)
	}()
	t.Check(<-started, "start program")
	t.Cleanup(p.Kill)
	return p
}

// Kill kills the program and its children, and waits for its end.
func (p *Process) Kill() {
	_ = unix.Kill(-p.Process.Pid, unix.SIGKILL)
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
	}
}

// Exited reports whether the program has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Errors is the program's output to standard error so far.
func (p *Process) Errors() string { return strings.TrimSpace(p.stderr.String()) }

// Output waits for the program's end and returns its output. The run fails if the program does.
func (p *Process) Output() string {
	select {
	case <-p.done:
	case <-p.t.Context.Done():
		p.t.Fail("%s did not end: %s%s", p.Path, p.stdout.String(), p.stderr.String())
	}
	if p.err != nil {
		p.t.Fail("run %s: %w: %s", p.Path, p.err, strings.TrimSpace(p.stderr.String()))
	}
	return strings.TrimSpace(p.stdout.String())
}

// End waits for the program's end and describes how it ended.
func (p *Process) End() string {
	select {
	case <-p.done:
		return fmt.Sprint(p.ProcessState)
	case <-p.t.Context.Done():
		return blocks
	}
}

// Said waits until the program has written this text. The run fails if the program ends first, or does not
// write it in time.
func (p *Process) Said(text string) {
	said := func() bool { return strings.Contains(p.stdout.String(), text) }
	for !said() {
		select {
		case <-p.t.Context.Done():
			p.t.Fail("%s did not print %q but %q %q", p.Path, text, p.stdout.String(), p.stderr.String())
		case <-p.done:
			if !said() {
				p.t.Fail("%s ended, %v, before it printed %q: %q %q",
					p.Path, p.err, text, p.stdout.String(), p.stderr.String())
			}
		case <-time.After(2 * time.Millisecond):
		}
	}
}
