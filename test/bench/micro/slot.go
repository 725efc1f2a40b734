// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/bench/counting"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// cpus is where both ends run.
type cpus struct {
	name           string // name in cells
	client, server int
}

var (
	same = cpus{"same", 1, 1}
	two  = cpus{"two", 0, 1}
)

// outcome is the result of one variant in one round.
type outcome struct {
	client, server wire.Answer
	redirected     uint64        // bytes
	sent           uint64        // bytes by both programs
	value          float64       // result of measures that are neither a time nor a rate of the traffic
	work           counting.Work // work of the machine during the traffic, where instructions are counted
}

// slot runs one order on one route, and finds out how many of its bytes were redirected.
func (w *world) slot(r route, v result.Variant, o wire.Order, at cpus,
	hold func() error) (out outcome, err error) {
	o.Addr, o.Kept, o.Congestion, o.Spin = r.listen, r.kept, w.congestion, r.spin
	before, err := w.counted(r)
	if err != nil {
		return out, err
	}
	if r.off {
		if err := w.data.SetDisabled(true); err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, w.data.SetDisabled(false)) }()
	}
	count := counting.None
	if w.counting {
		count = counting.Begin
	}
	done, err := count()
	if err != nil {
		return out, err
	}
	out.client, out.server, err = wire.Talk(r.client, r.server, o, at.client, at.server, hold)
	if err != nil {
		return out, err
	}
	if out.work, err = done(); err != nil {
		return out, err
	}
	if out.server.Got != out.client.Sent || out.client.Got != out.server.Sent {
		return out, fmt.Errorf("the client sent %d bytes and got %d, the server got %d and sent %d",
			out.client.Sent, out.client.Got, out.server.Got, out.server.Sent)
	}
	if max(out.client.Count, out.server.Count) == 0 || o.Kind == wire.Stream && out.server.Count == 0 {
		return out, errors.New("the time was over before there was anything to measure")
	}
	out.sent = out.client.Sent + out.server.Sent
	switch {
	case r.pair != nil:
		var counted pods.Sent
		if counted, err = w.settled(r, before, out.sent); err == nil && r.kept {
			err = wasKept(counted, out.sent)
		}
		out.redirected = counted.Redirected
	case v == result.Classic && o.Kind != wire.Churn:
		// The classic design counts nothing, but TCP does: bytes that did not use TCP were redirected.
		out.redirected = out.sent - min(out.sent, out.client.TCP+out.server.TCP)
	}
	return out, err
}

// wasKept checks that the verdict saw all sent bytes, and passed them to TCP.
func wasKept(counted pods.Sent, sent uint64) error {
	if counted.Redirected > 0 {
		return fmt.Errorf("%d bytes were redirected that should have been left to TCP", counted.Redirected)
	}
	if counted.TCP < sent/10*9 {
		return fmt.Errorf("of %d bytes, the data path counted %d: the sockets are not in its map", sent,
			counted.TCP)
	}
	return nil
}

func (w *world) counted(r route) (pods.Sent, error) {
	if r.pair == nil {
		return pods.Sent{}, nil
	}
	return r.pair.Sent(w.node)
}

// settled waits until the sockets are closed, so that all their bytes are counted. Bytes that are missing
// were not redirected.
func (w *world) settled(r route, before pods.Sent, sent uint64) (since pods.Sent, err error) {
	for range 20 {
		now, err := w.counted(r)
		if err != nil {
			return since, err
		}
		if since = now.Since(before); since.Redirected+since.TCP >= sent {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return since, nil
}
