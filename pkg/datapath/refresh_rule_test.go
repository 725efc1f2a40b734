// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// refreshesOf counts messages that used TCP for the sake of state between the ends.
func refreshesOf(t *testing.T, d *Datapath) uint64 {
	t.Helper()
	all, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return all[unregistered].Fallbacks[ReasonRefresh]
}

func TestRefresh(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	t.Run("is one message for each direction and interval", func(t *testing.T) { testRefreshInterval(t, d, g) })
	t.Run("does not wait longer than twice", func(t *testing.T) { testRefreshOfReaderBehind(t, d, g) })
	t.Run("goes when the reader has caught up", func(t *testing.T) { testRefreshWhenCaughtUp(t, d, g) })
}

func testRefreshInterval(t *testing.T, d *Datapath, g *group) {
	const every, lasting = 300 * time.Millisecond, 3 * time.Second
	setRefresh(t, d, every)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	messages, before := uint64(0), refreshesOf(t, d)
	begin := time.Now()
	for time.Since(begin) < lasting {
		fixture.Elapse(2*time.Millisecond, "the pace of the sender")
		send(t, client, server, 100, messages)
		send(t, server, client, 100, messages+1)
		messages += 2
	}
	got, most := refreshesOf(t, d)-before, 2*uint64(time.Since(begin)/every+1)
	if got > most || got < most/2 {
		t.Errorf("%d of %d messages used TCP for it in %v, want %d to %d", got, messages, lasting, most/2, most)
	}
	f, _ := flowOf(t, d, client)
	if f.Mode != ModeRedirect && f.Reason != ReasonRefresh {
		t.Errorf("the flow's mode is %v and its reason %v", f.Mode, f.Reason)
	}
}

// lagEvery is so long that the messages of a test are fewer than what may be sent to a reader that never
// catches up.
const lagEvery = 50 * time.Millisecond

// lag is a connection whose reader is always one message behind.
type lag struct {
	from, to *net.TCPConn
	sent     uint64
}

func (l *lag) write(t *testing.T) {
	t.Helper()
	deadline(t, l.from)
	if _, err := l.from.Write(pattern(make([]byte, 100), l.sent)); err != nil {
		t.Fatal(err)
	}
	l.sent++
}

func (l *lag) read(t *testing.T, which uint64) {
	t.Helper()
	receive(t, l.to, pattern(make([]byte, 100), which))
}

// The message over TCP waits until the reader has caught up, because a reader with bytes in both queues may
// miss the second queue. It does not wait for ever.
func testRefreshOfReaderBehind(t *testing.T, d *Datapath, g *group) {
	const every = time.Second
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 1)
	send(t, server, client, 100, 2)
	setRefresh(t, d, every)
	send(t, client, server, 100, 3) // over TCP, if the first has not gone that way
	begin := time.Now()
	before := refreshesOf(t, d)
	l := &lag{from: client, to: server}
	l.write(t)
	for refreshesOf(t, d) == before {
		if time.Since(begin) > 5*every {
			t.Fatal("no message has used TCP in five times the interval, because the reader was always behind")
		}
		l.write(t)
		l.read(t, l.sent-2)
		fixture.Elapse(lagEvery, "the pace of the sender")
	}
	if took := time.Since(begin); took < 2*every-200*time.Millisecond {
		t.Errorf("a message has used TCP after %v, with the reader behind; want not before %v", took, 2*every)
	}
	l.read(t, l.sent-1)
	for range 100 {
		l.write(t)
		l.read(t, l.sent-1)
	}
	if f, _ := flowOf(t, d, client); f.Mode != ModeRedirect {
		t.Errorf("afterwards the flow's mode is %v for the reason %v, want redirect", f.Mode, f.Reason)
	}
}

// It is the first message after the reader has caught up.
func testRefreshWhenCaughtUp(t *testing.T, d *Datapath, g *group) {
	const every = 2 * time.Second
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 1)
	send(t, server, client, 100, 2)
	setRefresh(t, d, every)
	send(t, client, server, 100, 3)
	begin := time.Now()
	l := &lag{from: client, to: server}
	l.write(t)
	before := refreshesOf(t, d)
	for time.Since(begin) < every+every/4 {
		l.write(t)
		l.read(t, l.sent-2)
		fixture.Elapse(lagEvery, "the pace of the sender")
	}
	if got := refreshesOf(t, d); got != before && time.Since(begin) < 2*every-every/4 {
		t.Errorf("%d messages used TCP with the reader behind, want none yet", got-before)
	}
	l.read(t, l.sent-1)
	l.write(t)
	if got := refreshesOf(t, d); got != before+1 {
		t.Errorf("%d messages used TCP when the reader had caught up, want 1", got-before)
	}
	l.read(t, l.sent-1)
}
