// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
	"github.com/sockmap-cni/sockmap-cni/test/lab/slowpage"
)

// twoQueues has a case for each reason to change from redirect to TCP while redirected bytes wait. Like many
// event loops, the reader uses edge-triggered epoll(7), takes a short read for the end, and does not use
// FIONREAD. All bytes have arrived before it first waits, and it gets them in the time of plain TCP and a
// second more, see docs/adr/0016-two-queues.md. The cases are Serial because switches and bounds apply to the
// node.
func twoQueues() []Case {
	return []Case{
		{Name: "queues/disabled", Serial: true, Run: func(t *T) { edgeAcross(t, changed(0, disable)) }},
		{Name: "queues/disabled-and-slow-reader", Serial: true, Run: func(t *T) {
			edgeAcross(t, changed(patienceOfChange, disable))
		}},
		{Name: "queues/policy", Serial: true, Run: func(t *T) { edgeAcross(t, changed(0, deny)) }},
		{Name: "queues/policy-and-slow-reader", Serial: true, Run: func(t *T) {
			edgeAcross(t, changed(patienceOfChange, deny))
		}},
		{Name: "queues/refresh", Serial: true, Run: func(t *T) {
			edgeAcross(t, changed(patienceOfChange, refresh))
		}},
		{Name: "queues/refresh-and-slow-reader", Serial: true, Run: func(t *T) {
			edgeAcross(t, changed(2*patienceOfChange, refresh))
		}},
		{Name: "queues/backlog-messages", Serial: true, Run: func(t *T) {
			bound(t, cniconf.DefaultMaxBacklogBytes, 16)
			edgeAcross(t, func(t *T) ([]byte, []byte) { return writeEach(t, 10, 20), nil })
		}},
		{Name: "queues/backlog-bytes", Serial: true, Run: func(t *T) {
			bound(t, 64<<10, cniconf.DefaultMaxBacklogMessages)
			edgeAcross(t, func(t *T) ([]byte, []byte) { return writeEach(t, 10_000, 8), nil })
		}},
		{Name: "queues/contended", Serial: true, Run: func(t *T) { edgeAcross(t, contend) }},
		{Name: "queues/memory", Serial: true, Run: scarce},
		{Name: "queues/option", Serial: true, Run: func(t *T) { edgeAcross(t, changed(0, stamp)) }},
	}
}

// patienceOfChange is the longest time by which a change that may be delayed is delayed, and a little more.
const patienceOfChange = 1200 * time.Millisecond

// edgeAcross calls fill, which sends, and reads the bytes that fill has not read itself.
func edgeAcross(t *T, fill func(*T) (sent, taken []byte)) {
	const inTime = 2 * time.Second
	t.S.Nonblock(true)
	e := t.Epoll()
	e.Add(t.S, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET)
	e.Wait(0)
	sent, got := fill(t)
	t.Pause()
	end := ""
	for len(got) < len(sent) {
		if ev := e.Wait(inTime); ev == "nothing" {
			end = ", then blocks"
			break
		}
		for n := readerBuffer; n == readerBuffer; {
			r := t.S.Read(readerBuffer)
			n, got = r.N, append(got, r.Data...)
		}
	}
	t.Received("received", suite.Text(got)+end)
	t.See("afterwards", t.S.Read(readerBuffer))
}

// readerBuffer is larger than the result of any read here.
const readerBuffer = 1 << 20

// writeEach sends messages of one size.
func writeEach(t *T, size, messages int) []byte {
	sent := pattern(size*messages, uint64(size))
	for i := range messages {
		if r := t.C.WriteAll(sent[i*size : (i+1)*size]); r.Errno != 0 {
			t.See("send", r)
		}
	}
	return sent
}

// changed sends, makes a change, waits, and sends more.
func changed(wait time.Duration, turn func(*T)) func(*T) (sent, taken []byte) {
	return func(t *T) (sent, taken []byte) {
		sent = writeEach(t, 100, 3)
		turn(t)
		t.Rest(wait)
		return append(sent, writeEach(t, 200, 3)...), nil
	}
}

// stamp asks for the arrival time of received bytes, which only TCP reports.
func stamp(t *T) { t.See("SO_TIMESTAMP", t.S.Set(unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1)) }

// disable keeps the kill switch on until the run ends.
func disable(t *T) {
	steer(t, func(d *datapath.Datapath, _ uint64) error { return d.SetDisabled(true) },
		func(d *datapath.Datapath, _ uint64) error { return d.SetDisabled(false) })
}

// deny excludes every port of the server until the run ends.
func deny(t *T) {
	var was datapath.Registered
	steer(t, func(d *datapath.Datapath, cookie uint64) (err error) {
		if was, _, err = d.Endpoint(cookie); err != nil {
			return err
		}
		denied := was.Policy
		denied.Exclude = []datapath.PortRange{{First: 1, Last: 65535}}
		return d.SetEndpoint(cookie, denied)
	}, func(d *datapath.Datapath, cookie uint64) error { return d.SetEndpoint(cookie, was.Policy) })
}

// live changes settings of the node until the run ends.
func live(t *T, change func(*datapath.Live)) {
	var was datapath.Live
	steer(t, func(d *datapath.Datapath, _ uint64) error {
		now, err := d.Config()
		if err != nil {
			return err
		}
		was = now.Live()
		changed := was
		change(&changed)
		return d.SetLive(changed)
	}, func(d *datapath.Datapath, _ uint64) error { return d.SetLive(was) })
}

// bound changes how many bytes may wait for a reader.
func bound(t *T, bytes, messages uint32) {
	live(t, func(l *datapath.Live) { l.MaxBacklogBytes, l.MaxBacklogMessages = bytes, messages })
}

// refresh sends one message each second over TCP.
func refresh(t *T) { live(t, func(l *datapath.Live) { l.NATRefreshSeconds = 1 }) }

// steer changes something in the data path, and undoes it when the run ends.
func steer(t *T, do, undo func(*datapath.Datapath, uint64) error) {
	t.Cleanup(func() { _ = t.Place.Steer(undo) })
	t.Check(t.Place.Steer(do), "steer the data path")
}

// finds is how often a sender of small messages must find the reader's lock held until it falls back, and one
// more, see bpf/contended.h.
const finds = 5

// contend sends small messages, each while the reader's receive call for one byte is held in its copy, and
// with it the socket's lock.
func contend(t *T) (sent, taken []byte) {
	sent = writeEach(t, 20, 1)
	for i := range finds {
		page := slowpage.New(pages{t})
		received, err := page.Receive(t.S.FD)
		t.Check(err, "hold a receive call")
		message := pattern(10, uint64(i))
		sent = append(sent, message...)
		send := suite.Go(t, func() suite.Ret { return t.C.WriteAll(message) })
		t.Pause()
		t.Check(page.GoOn(), "let the call go on")
		t.Check(<-received, "receive a byte")
		t.See("send", send.Wait())
		taken = append(taken, page.Byte())
	}
	return sent, taken
}

// pages makes a run of a case a slowpage.T.
type pages struct{ *T }

func (pages) Helper() {}

func (p pages) Error(args ...any) { p.Fatal(args...) }

func (p pages) Fatal(args ...any) { p.Fail("%s", fmt.Sprint(args...)) }
