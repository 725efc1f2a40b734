// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// bench has both sides and their results.
type bench struct {
	Options
	places     *places
	spaces     *namespaces
	sides      [2]side // plain and accelerated
	agents     []*wire.Agent
	warm, time time.Duration // of each measurement
	report     Report
}

// side is two containers that talk to each other.
type side struct{ client, server *wire.Agent }

// sample is one measurement, in the unit of a Result.
type sample struct {
	value            float64
	sent, redirected uint64 // bytes
}

// withBench calls f with both sides ready, on a locked thread, because the processes of the sides end with
// their thread.
func withBench(ctx context.Context, o Options, f func(*bench) error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := &bench{Options: o}
	defer func() { err = errors.Join(err, b.close()) }()
	if b.places, err = makePlaces(len(b.sides)); err != nil {
		return err
	}
	if b.spaces, err = openNamespaces(); err != nil {
		return err
	}
	b.report.Unfiltered = unfiltered(b.spaces)
	for i := range b.sides {
		if err := b.start(ctx, i); err != nil {
			return err
		}
	}
	if b.report.Congestion, b.report.NodeCongestion, err = congestion(); err != nil {
		return err
	}
	b.plan()
	return f(b)
}

// plan divides the time among the measurements; a sixth of each is its warm-up.
func (b *bench) plan() {
	each := b.Duration / time.Duration(2*Rounds*(len(b.cases())+len(guardCases)))
	b.warm = each / 6
	b.time = each - b.warm
}

// cases are the cases for which there are enough CPUs.
func (b *bench) cases() (all []Case) {
	for _, c := range Cases() {
		if !c.TwoCPUs || b.OtherCPU >= 0 {
			all = append(all, c)
		}
	}
	return all
}

func (b *bench) start(ctx context.Context, i int) error {
	n, err := makeNetwork(b.spaces, b.report.Unfiltered == "")
	if err != nil {
		return fmt.Errorf("make a network of two containers: %w", err)
	}
	for _, end := range []struct {
		into **wire.Agent
		name string
		ns   int
	}{{&b.sides[i].client, "client", n.client}, {&b.sides[i].server, "server", n.server}} {
		*end.into, err = wire.Start(ctx, end.name, place{b.spaces, end.ns, b.places.dirs[i]})
		if err != nil {
			return err
		}
		b.agents = append(b.agents, *end.into)
	}
	return nil
}

func (b *bench) close() (err error) {
	for _, a := range b.agents {
		a.Stop()
	}
	if b.places != nil {
		err = b.places.remove()
	}
	if b.spaces != nil {
		b.spaces.close()
	}
	return err
}

// congestion returns the congestion control that all tools use, and the default of the node. An algorithm
// that paces, such as bbr, makes plain TCP slower on links without a rate limit, and so the ratio too good.
func congestion() (used, node string, err error) {
	const wanted = "cubic"
	read := func(name string) []string {
		b, failed := os.ReadFile("/proc/sys/net/ipv4/tcp_" + name)
		if failed != nil {
			err = fmt.Errorf("ask for TCP's congestion control: %w", failed)
		}
		return strings.Fields(string(b))
	}
	node = strings.Join(read("congestion_control"), " ")
	if slices.Contains(read("available_congestion_control"), wanted) {
		return wanted, node, err
	}
	return node, node, err
}

// both measures a case on both sides, one directly after the other. The order changes from round to round.
func (b *bench) both(d *datapath.Datapath, round int, c Case, add func(plain, accelerated sample)) error {
	var samples [2]sample
	for i := range samples {
		which := (i + round) % len(samples)
		before, err := sums(d)
		if err != nil {
			return err
		}
		s, err := b.measure(b.sides[which], c)
		if err != nil {
			return fmt.Errorf("measure %s of %d B, %s: %w", c.Kind, c.Bytes,
				[...]string{"plain", "accelerated"}[which], err)
		}
		if which == 1 {
			if s.redirected, err = settled(d, before, s.sent); err != nil {
				return err
			}
		}
		samples[which] = s
	}
	add(samples[0], samples[1])
	return nil
}

// attempts bounds the repetitions of a measurement that was disturbed because another program had the CPU.
const attempts = 3

func (b *bench) measure(on side, c Case) (s sample, err error) {
	for range attempts {
		one, err := b.attempt(on, c)
		s.sent += one.sent
		if s.value = one.value; err != nil || s.value > 0 {
			return s, err
		}
	}
	return s, fmt.Errorf("nothing was to be measured within %v: measure longer, on a quieter node", b.time)
}

func (b *bench) attempt(on side, c Case) (s sample, err error) {
	o := wire.Order{
		Kind: c.Kind, Addr: serverAddr.Addr().String() + ":0", Size: c.Bytes, Warm: b.warm, Time: b.time,
		Congestion: b.report.Congestion,
	}
	clientCPU := b.CPU
	if c.TwoCPUs {
		clientCPU = b.OtherCPU
	}
	client, server, err := wire.Talk(on.client, on.server, o, clientCPU, b.CPU, nil)
	if err != nil {
		return s, err
	}
	if server.Got != client.Sent || client.Got != server.Sent {
		return s, fmt.Errorf("of %d bytes %d arrived, and of %d answered %d", client.Sent, server.Got,
			server.Sent, client.Got)
	}
	s.sent = client.Sent + server.Sent
	s.value = float64(client.P50)
	if c.Kind == wire.Stream {
		s.value = server.Rate()
	}
	return s, nil
}

// settled waits until the sockets of a measurement have closed, so that the sums include all bytes. It stops
// waiting after 20 ms without a change. Missing bytes count as not redirected.
func settled(d *datapath.Datapath, before traffic, sent uint64) (redirected uint64, err error) {
	steady, last := 0, before
	for looks := 0; looks < 200 && steady < 4; looks++ {
		now, err := sums(d)
		if err != nil {
			return 0, err
		}
		redirected = now.redirected - before.redirected
		if redirected+now.tcp-before.tcp >= sent {
			break
		}
		if steady++; now != last {
			steady = 0
		}
		last = now
		time.Sleep(5 * time.Millisecond)
	}
	return redirected, nil
}

type traffic struct{ redirected, tcp uint64 }

func sums(d *datapath.Datapath) (sum traffic, err error) {
	all, err := d.Totals()
	for _, t := range all {
		sum.redirected += t.RedirectedBytes
		sum.tcp += t.TCPBytes
	}
	return sum, err
}
