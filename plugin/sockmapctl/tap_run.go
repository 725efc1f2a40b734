// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/ownfile"
	"github.com/sockmap-cni/sockmap-cni/pkg/tap"
	"golang.org/x/sys/unix"
)

const (
	// tapPause is how long a tap waits for a message before it does other things: flush, and look whether it should end.
	tapPause = 100 * time.Millisecond
	// tapDrain bounds the reading of what was copied before the end.
	tapDrain = 2 * time.Second
)

// tapSink gets what a tap lets through.
type tapSink interface {
	// add is called for each part of a message.
	add(c *datapath.TapChunk) error
	flush() error
	// finish is called once, with the number of messages that are missing.
	finish(dropped uint64) error
}

func (a *app) tap(ctx context.Context, f *tapFlags) (err error) {
	// A reader that goes away is an error of write, not a death that leaves the verdict copying.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, unix.SIGPIPE)
	defer signal.Stop(broken)

	names, err := newTapNames(a.dir, f)
	if err != nil {
		return err
	}
	defer names.d.Close()
	began := time.Now()
	session, err := tap.Open(ctx, a.dir, names.kernel(), f.ring)
	if err != nil {
		return err
	}
	// Only now: one that is refused must not have emptied the file of the one that runs.
	sink, closeSink, err := a.tapSink(f, names, began)
	if err != nil {
		return errors.Join(err, session.Close())
	}
	if wait := names.waitsFor(); wait != "" {
		fmt.Fprintln(a.stderr, wait)
	}
	gate := tap.NewGate(names.snap(), f.bounds, names.wants)
	run := tapRun{session, gate, names, sink}
	err = run.until(ctx, began, f.duration)
	drops, dropErr := session.Drops()
	// After an error, too: what was captured before it is worth having.
	finishErr := sink.finish(drops.Messages + gate.Sums().DroppedMessages)
	if err == nil {
		err = finishErr
	}
	lapse := session.Lapse()
	err = errors.Join(err, dropErr, session.Close(), closeSink())
	a.tellTap(gate.Sums(), drops, lapse)
	return err
}

// tapRun is one tap from its beginning to its end.
type tapRun struct {
	session *tap.Session
	gate    *tap.Gate
	names   *tapNames
	sink    tapSink
}

// until reads until the bounds are reached or ctx ends, which is how people end it and no error.
func (r *tapRun) until(ctx context.Context, began time.Time, limit time.Duration) error {
	for ctx.Err() == nil && !r.gate.Full() {
		pause := time.Now().Add(tapPause)
		if limit > 0 {
			end := began.Add(limit)
			if !time.Now().Before(end) {
				break
			}
			if end.Before(pause) {
				pause = end
			}
		}
		if err := r.step(pause); err != nil {
			return err
		}
	}
	if r.gate.Done() {
		return nil
	}
	// What was sent before the end belongs to it.
	if err := r.session.Stop(); err != nil {
		return err
	}
	for end := time.Now().Add(tapDrain); time.Now().Before(end) && !r.gate.Done(); {
		err := r.read(time.Now().Add(time.Millisecond))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *tapRun) step(deadline time.Time) error {
	err := r.read(deadline)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = r.sink.flush()
	}
	return errors.Join(err, r.names.follow(r.session))
}

func (r *tapRun) read(deadline time.Time) error {
	var c datapath.TapChunk
	if err := r.session.Read(&c, deadline); err != nil {
		return err
	}
	if !r.gate.Admit(&c) {
		return nil
	}
	return r.sink.add(&c)
}

// tellTap says at the end what there was. On standard error: standard output may be the capture.
func (a *app) tellTap(s tap.Sums, drops datapath.TapDrops, lapse time.Duration) {
	fmt.Fprintf(a.stderr, "%d messages, %d bytes, %d captured; dropped: %d messages (%d bytes) without room, %d (%d bytes) by --rate\n",
		s.Messages, s.Bytes, s.Captured, drops.Messages, drops.Bytes, s.DroppedMessages, s.DroppedPart)
	if lapse > 0 {
		fmt.Fprintf(a.stderr, "(nothing was seen for %v: others had held the lock)\n", lapse.Round(time.Millisecond))
	}
}

func (a *app) tapSink(f *tapFlags, names *tapNames, began time.Time) (tapSink, func() error, error) {
	keep := func() error { return nil }
	if f.file == "" {
		return newTapPrinter(a.stdout, names), keep, nil
	}
	out, closeFile := io.Writer(a.stdout), keep
	if f.file != "-" {
		// It gets what programs say to each other: nobody else may have prepared the file, or read it.
		file, err := ownfile.Open(f.file, os.O_WRONLY|os.O_TRUNC, ownfile.Demand{Forbidden: 0o077})
		if err != nil {
			return nil, nil, err
		}
		out, closeFile = file, file.Close
	}
	sink, err := newTapCapture(out, names, began)
	if err != nil {
		return nil, nil, errors.Join(err, closeFile())
	}
	return sink, closeFile, nil
}
