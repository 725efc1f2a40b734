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
	// tapPause is how long a tap waits for a message before it flushes and checks whether it should end.
	tapPause = 100 * time.Millisecond
	// tapDrain bounds the reading of messages that were copied before the end.
	tapDrain = 2 * time.Second
)

// tapSink receives the messages that pass the filter.
type tapSink interface {
	// add is called for each part of a message.
	add(c *datapath.TapChunk) error
	flush() error
	// finish is called once, with the number of messages that are missing.
	finish(dropped uint64) error
}

func (a *app) tap(ctx context.Context, f *tapFlags) (err error) {
	// With the signal caught, a reader that goes away causes an error of write. Otherwise the process would
	// die, and the verdict would continue to copy.
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
	// The file is opened after the tap, because a tap that is refused must not empty the file of the running
	// one.
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
	// After an error, too, so that the file is valid up to the error.
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

// until reads until the bounds are reached or ctx ends. The end of ctx is not an error, because Ctrl-C is the
// normal end.
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
	// Messages that were sent before the end are part of the capture.
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

// tellTap prints the sums at the end, on standard error, because standard output may be the capture.
func (a *app) tellTap(s tap.Sums, drops datapath.TapDrops, lapse time.Duration) {
	fmt.Fprintf(a.stderr,
		"%d messages, %d bytes, %d captured; dropped: %d messages (%d bytes) without room, %d (%d bytes) "+
			"by --rate\n",
		s.Messages, s.Bytes, s.Captured, drops.Messages, drops.Bytes, s.DroppedMessages, s.DroppedPart)
	if lapse > 0 {
		fmt.Fprintf(a.stderr, "(nothing was seen for %v: others had held the lock)\n",
			lapse.Round(time.Millisecond))
	}
}

func (a *app) tapSink(f *tapFlags, names *tapNames, began time.Time) (tapSink, func() error, error) {
	keep := func() error { return nil }
	if f.file == "" {
		return newTapPrinter(a.stdout, names), keep, nil
	}
	out, closeFile := io.Writer(a.stdout), keep
	if f.file != "-" {
		// The file has payload: nobody else may have prepared it, or be able to read it.
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
