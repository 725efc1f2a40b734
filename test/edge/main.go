// SPDX-License-Identifier: Apache-2.0

// Edge counts how often a reader hangs that uses edge-triggered epoll(7), takes a read that does not fill its
// buffer for the last one, and does not use FIONREAD. Such a reader may get one event for redirected bytes
// and for later bytes that came over TCP, but one receive call returns only the redirected ones
// (docs/adr/0016-two-queues.md).
//
//	edge                         bursts of 64 KiB to 32 MiB in messages of 10 B to 64 KiB, 1000 rounds each
//	edge -plain                  the same on plain TCP
//	edge -burst 65536 -message 10 -rounds 100
//
// edge -nginx -rounds 20 a real nginx (Debian: nginx-light) whose worker is stopped while a body is posted to
// it
//
// In each round the sender sends a burst, of a random size from half the named one, and waits for the
// reader's answer, and the reader is busy elsewhere for up to 50 ms before it waits for the first event. A
// round that takes longer than 5 s is a hang; the bytes are then read without an event, and the next round
// begins without unread bytes. The delay is the time to the answer from the moment at which all is sent and
// the reader is not busy any more; a round with a delay of more than half a second is late. Both ends are on
// the loopback interface of a network namespace, in a cgroup to which the program's own data path is
// attached. Hazards of the kernel are accepted. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
)

type options struct {
	rounds, hangs  int
	plain, nginx   bool
	guards         bool
	burst, message int
}

func main() {
	probe.Main()
	place.RunMaker()
	var o options
	flag.IntVar(&o.rounds, "rounds", 1000, "rounds of each row; a tenth of it for 32 MiB")
	flag.IntVar(&o.hangs, "hangs", 5, "a row ends after so many hangs")
	flag.BoolVar(&o.plain, "plain", false, "plain TCP")
	flag.BoolVar(&o.nginx, "nginx", false, "nginx instead of the built-in reader")
	flag.BoolVar(&o.guards, "guards", false, "run guards, as far as the kernel loads them")
	flag.IntVar(&o.burst, "burst", 0, "only bursts of this size, in `bytes`")
	flag.IntVar(&o.message, "message", 0, "only messages of this size, in `bytes`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "edge:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	accepting := place.Options{AcceptHazards: true, Guards: o.guards, Log: os.Stderr}
	site, err := place.Open(ctx, "loopback", accepting)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	ends, err := site.Place(ctx, !o.plain)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ends.Close()) }()
	if o.nginx {
		return nginx(ctx, o, ends)
	}
	return matrix(ctx, o, ends)
}

// cells are the rows of the table: bursts in messages of one size.
func cells(o options) (all []cell) {
	for _, burst := range []int{64 << 10, 1 << 20, 32 << 20} {
		for _, message := range []int{10, 1 << 10, 64 << 10} {
			c := cell{burst: burst, message: message, rounds: o.rounds}
			if burst > 1<<20 {
				c.rounds = max(1, o.rounds/10)
			}
			wanted := (o.burst == 0 || o.burst == burst) && (o.message == 0 || o.message == message)
			if wanted && (burst <= 1<<20 || message > 10) {
				all = append(all, c)
			}
		}
	}
	return all
}

func matrix(ctx context.Context, o options, ends place.Place) error {
	fmt.Println("burst in messages of | rounds | hangs | late | delay p50, p99, max ms | redirected | changes to TCP, by reason")
	for _, c := range cells(o) {
		r, err := measure(ctx, ends, c, o.hangs)
		if err != nil {
			return err
		}
		fmt.Printf("%8d KiB %8d B | %5d | %3d | %3d | %7.2f %7.2f %8.2f | %3.0f %% | %s\n", c.burst>>10, c.message,
			len(r.delays)+r.hangs, r.hangs, r.late(), r.quantile(0.5), r.quantile(0.99), r.quantile(1),
			100*r.redirected, r.reasons)
	}
	return ctx.Err()
}
