// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// daemon is a part of the cluster: a long-running process that can be stopped and started again.
type daemon struct {
	name, path string
	args       []string
	ready      func() error // nil once it is ready

	cmd    *exec.Cmd
	exited chan struct{}
	err    error // its error, after exited is closed
}

// start starts it and waits until it is ready.
func (d *daemon) start() error {
	log, err := os.OpenFile(filepath.Join(logDir(), d.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has it, too
	cmd := exec.Command(d.path, d.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+tools.containerd+":"+os.Getenv("PATH"), roleVariable+"=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	exited := make(chan struct{})
	d.cmd, d.exited, d.err = cmd, exited, nil
	go func() {
		d.err = cmd.Wait()
		close(exited)
	}()
	return poll(d.name+" works", 2*time.Minute, func() error {
		select {
		case <-exited:
			return final{fmt.Errorf("it has ended: %w\n%s", d.err, d.tail())}
		default:
			return d.ready()
		}
	})
}

// stop sends it a signal, and waits until it has ended.
func (d *daemon) stop(signal unix.Signal) error {
	if d == nil || d.cmd == nil {
		return nil
	}
	select {
	case <-d.exited:
		return fmt.Errorf("%s has ended unexpectedly: %w\n%s", d.name, d.err, d.tail())
	default:
	}
	if err := d.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("stop %s: %w", d.name, err)
	}
	var late error
	if _, ok := fixture.ReceiveWithin(30*time.Second, d.exited); !ok {
		late = fmt.Errorf("%s does not end after a signal\n%s", d.name, d.tail())
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
	d.cmd = nil
	return late
}

// restart stops it, and starts it again.
func (d *daemon) restart(signal unix.Signal) error { return errors.Join(d.stop(signal), d.start()) }

// tail is the end of its log.
func (d *daemon) tail() string {
	b, err := os.ReadFile(filepath.Join(logDir(), d.name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// final is an error that waiting does not cure.
type final struct{ error }

// poll calls f repeatedly until there is no error.
func poll(what string, limit time.Duration, f func() error) error {
	var err error
	if !fixture.Within(limit, func() bool {
		err = f()
		return err == nil || errors.As(err, new(final))
	}) {
		return fmt.Errorf("waited %s until %s: %w", limit, what, err)
	}
	if err != nil {
		return fmt.Errorf("%s, in vain: %w", what, err)
	}
	return nil
}
