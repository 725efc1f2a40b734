// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

// An outcome is one run of a case.
type outcome struct {
	observations []Observation
	carried      place.Bytes // bytes of the case itself, without the warm-up
	took         time.Duration
	err          error
}

// limit bounds cases without a limit of their own. Their calls are bounded by the sockets' timeouts; this
// bounds the rest. It is long, because making a connection may take long on a busy machine.
const limit = 20 * time.Second

// grace is how long a run may take to react to the watchdog.
const grace = 3 * time.Second

// runOnce runs c in p. It returns even if the case does not.
func runOnce(ctx context.Context, c Case, p place.Place, scale float64) outcome {
	if err := find(c.Needs); err != nil {
		return outcome{err: err}
	}
	t := &T{Place: p, scale: scale, waits: inPoll}
	if c.Blocking {
		t.waits = inKernel
	}
	bound := c.Limit
	if bound == 0 {
		bound = limit
	}
	ctx, cancel := context.WithTimeout(ctx, t.Scaled(bound))
	defer cancel()
	t.Context = ctx
	done := make(chan outcome, 1)
	go func() { done <- t.run(c) }()
	select {
	case o := <-done:
		return o
	case <-ctx.Done():
	}
	t.stop()
	select {
	case o := <-done:
		// Appended here, because the case has ended, and its list is complete.
		o.observations = append(o.observations, Observation{Name: "watchdog", Value: blocks})
		o.err = nil
		return o
	case <-time.After(t.Scaled(grace)):
		return outcome{observations: []Observation{{Name: "watchdog", Value: blocks + " even after shutdown"}}}
	}
}

// find fails if programs are missing: a case that is skipped silently would look like one without a
// difference.
func find(programs []Program) error {
	var errs []error
	for _, p := range programs {
		if _, err := exec.LookPath(p.Name); err != nil {
			errs = append(errs, fmt.Errorf("find %s: it is not in PATH (Debian package %s)", p.Name, p.Package))
		}
	}
	return errors.Join(errs...)
}

// run is the goroutine of the case.
func (t *T) run(c Case) (o outcome) {
	isolateThread()
	start := time.Now()
	defer func() {
		if fault := recover(); fault != nil {
			b, ok := fault.(broken)
			if !ok {
				panic(fault)
			}
			o.err = b.err
		}
		o.observations, o.took = t.observations, time.Since(start)
		t.close()
	}()
	if c.EventLoop {
		set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		t.Check(err, "make epoll set")
		defer unix.Close(set)
		t.loop = &set
	}
	if !c.Alone {
		t.C, t.S = t.Connection()
		if !c.Fresh {
			t.warmUp(t.C, t.S)
		}
	}
	before := t.carried()
	c.Run(t)
	o.took = time.Since(start)
	after := t.carried()
	// A socket of the previous case may be counted twice while it closes.
	o.carried.Redirected = max(after.Redirected, before.Redirected) - before.Redirected
	o.carried.TCP = max(after.TCP, before.TCP) - before.TCP
	return o
}

func (t *T) carried() place.Bytes {
	b, err := t.Place.Carried()
	t.Check(err, "count bytes")
	return b
}
