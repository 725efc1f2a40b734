// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// plain runs no guard: each direction is redirected from its first message.
var plain = datapath.Settings{
	MaxSockets: 1024, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, Version: "test",
	WithoutGuards: datapath.Guards,
}

// observed by all guards that this kernel loads.
var withGuards = datapath.Settings{MaxSockets: 1024, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096,
	Version: "test"}

// objection is a situation in which the programs send a message over TCP.
type objection struct {
	reason    datapath.Reason
	name      string // distinguishes rows of one reason
	guard     string // it needs this guard
	how       how
	cold      bool // no message is redirected before
	predicted bool // explain knows the reason before the message, from facts
	reverse   bool // the server sends, and the client reads
	until     int  // messages after which the reason is there, at most; 0: the first
	size      int  // of each; 0: 100 bytes
	unread    bool // nobody reads them
	leaves    bool // the flow leaves the sockhash for good
	do        func(sender, reader *end)
}

func readerSets(level, option, value int) func(_, reader *end) {
	return func(_, reader *end) { reader.set(level, option, value) }
}

// readerPeeksAt sets SO_PEEK_OFF, which TCP sockets have since Linux 6.9.
func readerPeeksAt(_, reader *end) {
	err := unix.SetsockoptInt(reader.fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		reader.Skip("TCP sockets of this kernel have no SO_PEEK_OFF")
	}
	if err != nil {
		reader.Fatal(err)
	}
}

func receiveWith(flags int) func(sender, reader *end) {
	return func(sender, reader *end) {
		sender.send(1)
		fixture.Wait(reader, "a byte arrives", func() bool {
			n, _, err := unix.Recvfrom(reader.fd, make([]byte, 1), flags)
			return n == 1 && err == nil
		})
	}
}

// objections has at least one row for each reason that can be driven here. Those without guards come first.
func objections() []objection {
	return []objection{
		{reason: datapath.ReasonDisabled, predicted: true, do: func(s, _ *end) { s.disable(true) }},
		{reason: datapath.ReasonState, predicted: true, unread: true, do: func(s, _ *end) {
			if err := unix.Shutdown(s.fd, unix.SHUT_WR); err != nil {
				s.Fatal(err)
			}
		}},
		{reason: datapath.ReasonPolicy, name: "ports", predicted: true, do: func(s, _ *end) {
			s.policy(s.db, datapath.Policy{Accelerate: true,
				Exclude: []datapath.PortRange{{First: s.port, Last: s.port}}})
		}},
		{reason: datapath.ReasonPolicy, name: "peers", predicted: true, do: func(s, _ *end) {
			s.policy(s.web, datapath.Policy{Accelerate: true, Peers: datapath.PeersPod})
		}},
		{reason: datapath.ReasonPolicy, name: "opted out", predicted: true, do: func(s, _ *end) {
			s.policy(s.db, datapath.Policy{})
		}},
		{reason: datapath.ReasonPolicy, name: "helper", predicted: true, do: func(s, _ *end) {
			if _, err := s.d.SetHelperPorts([]datapath.PortRange{{First: s.port, Last: s.port}}); err != nil {
				s.Fatal(err)
			}
		}},
		{reason: datapath.ReasonShutdown, do: func(_, r *end) {
			if err := unix.Shutdown(r.fd, unix.SHUT_RD); err != nil {
				r.Fatal(err)
			}
		}, unread: true},
		{reason: datapath.ReasonZerocopy, predicted: true,
			do: func(s, _ *end) { s.set(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1) }},
		{reason: datapath.ReasonRcvlowat, predicted: true, do: readerSets(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 50)},
		{reason: datapath.ReasonInq, predicted: true, do: readerSets(unix.IPPROTO_TCP, unix.TCP_INQ, 1)},
		{reason: datapath.ReasonOption, name: "timestamps", predicted: true,
			do: readerSets(unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1)},
		{reason: datapath.ReasonOption, name: "sender", predicted: true, do: func(s, _ *end) {
			s.set(unix.SOL_SOCKET, unix.SO_TIMESTAMPING,
				unix.SOF_TIMESTAMPING_TX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE)
		}},
		{reason: datapath.ReasonOption, name: "peek", predicted: true, do: readerPeeksAt, unread: true},
		{reason: datapath.ReasonUnread, cold: true, how: how{fastOpen: true}, unread: true},
		{reason: datapath.ReasonRefresh, until: 2000, do: func(s, _ *end) {
			s.live(func(l *datapath.Live) { l.NATRefreshSeconds = 1 })
		}},
		{reason: datapath.ReasonBacklogBytes, unread: true, size: 64 << 10, until: 20},
		{reason: datapath.ReasonBacklogMessages, unread: true, size: 600, until: 400},
		{reason: datapath.ReasonCorked, until: 200, leaves: true,
			do: func(s, _ *end) { s.set(unix.IPPROTO_TCP, unix.TCP_CORK, 1) }},
		{reason: datapath.ReasonSmall, until: 20000, size: 32, leaves: true},
		{reason: datapath.ReasonPages, leaves: true, unread: true, do: sendFiles},
		{reason: datapath.ReasonEarly, reverse: true, cold: true, how: how{noEvents: true}},
		{reason: datapath.ReasonOOB, guard: datapath.GuardObserve, do: func(s, r *end) {
			if err := unix.Sendto(s.fd, []byte{1}, unix.MSG_OOB, nil); err != nil {
				s.Fatal(err)
			}
		}, unread: true},
		{reason: datapath.ReasonWaitall, guard: datapath.GuardObserve, do: receiveAll},
		{reason: datapath.ReasonDiscard, guard: datapath.GuardObserve, do: receiveWith(unix.MSG_TRUNC)},
		{reason: datapath.ReasonLearning, guard: datapath.GuardObserve, cold: true, how: how{noEvents: true}},
		{reason: datapath.ReasonBlocking, guard: datapath.GuardBlocking, cold: true, how: how{noEvents: true},
			do: blockedReader},
		{reason: datapath.ReasonSplice, guard: datapath.GuardSplice, do: splicingReader},
	}
}

// undrivenReasons are driven elsewhere, as they need more than two pods and a socket.
var undrivenReasons = map[datapath.Reason]string{
	datapath.ReasonULP:       "kernels without kTLS have no upper-layer protocol: test/conformance, case ktls",
	datapath.ReasonNoPeer:    "a result: see remote in results; its socket leaves with the first acknowledgement",
	datapath.ReasonContended: "the reader has to hold its lock at that very moment: pkg/datapath, TestContendedStreamLeavesForGood",
	datapath.ReasonMemory:    "a memory cgroup at its limit: pkg/datapath, TestReaderAtItsMemoryLimitHoldsSendersBack",
	datapath.ReasonLeaving:   "the other direction of a row that leaves, see TestTheOtherEndLeavesToo",
	datapath.ReasonPeerLeft:  "a race of close and send that no test can win at will",
}

// settingsWith returns the settings of a row that needs this guard; the empty name is none.
func settingsWith(guard string) datapath.Settings {
	if guard == "" {
		return plain
	}
	return withGuards
}

// require skips the test if the guard does not run; the empty name is none.
func (p *place) require(guard string) {
	p.Helper()
	states, err := p.d.GuardStates()
	if err != nil {
		p.Fatal(err)
	}
	active := func(s datapath.GuardState) bool { return s.Name == guard && s.Active }
	if guard != "" && !slices.ContainsFunc(states, active) {
		p.Skipf("this kernel does not load the guard %s", guard)
	}
}

func TestExplainAgreesWithTheProgramsOnReasons(t *testing.T) {
	at := nodes(t)
	for _, o := range objections() {
		t.Run(fmt.Sprint(o.reason, " ", o.name), func(t *testing.T) {
			p := at(settingsWith(o.guard)).place(t)
			p.require(o.guard)
			p.drive(o)
		})
	}
}

// drive brings the situation about, and compares what explain says before and after with what the programs
// decide.
func (p *place) drive(o objection) {
	p.Helper()
	sender, reader := p.connect(o.how)
	if o.reverse {
		sender, reader = reader, sender
	}
	if !o.cold {
		exchange(sender, reader, 3)
		exchange(reader, sender, 3)
		if f := sender.flow(); f == nil || f.Mode != datapath.ModeRedirect {
			p.Fatalf("it is not redirected at first: %+v", f)
		}
		if e := sender.explained(reader); e.Outcome != Redirected || e.Next != "" {
			p.Errorf("explain, of a flow that is redirected: %s, %q, next %q", e.Outcome, e.Answer, e.Next)
		}
	}
	if o.do != nil {
		o.do(sender, reader)
	}
	before := sender.explained(reader)
	flow := sender.sendUntil(reader, o)
	if flow == nil {
		p.Fatal("the flow is not among the live ones")
	}
	if flow.Mode != datapath.ModeTCP || flow.Reason != o.reason {
		p.Fatalf("the programs decide %v, %v; want tcp, %v", flow.Mode, flow.Reason, o.reason)
	}
	want := ""
	if o.predicted {
		want = o.reason.String()
	}
	if got := before.predicted(); got != want && !flow.Left {
		p.Errorf("explain predicted %q, want %q: the programs decided %v (%q, next %q)", got, want, o.reason,
			before.Answer, before.Next)
	}
	p.compare(sender.explained(reader), flow)
}

// sendUntil sends until the row's reason is there.
func (e *end) sendUntil(reader *end, o objection) (flow *datapath.Flow) {
	e.Helper()
	size := max(o.size, 1)
	if o.size == 0 {
		size = 100
	}
	for range max(o.until, 1) {
		_, err := unix.Write(e.fd, make([]byte, size))
		if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.EAGAIN) {
			e.Fatal(err)
		}
		if !o.unread {
			reader.read(size)
		}
		if flow = e.flow(); flow == nil || flow.Reason == o.reason && flow.Mode == datapath.ModeTCP {
			return flow
		}
		if o.reason == datapath.ReasonRefresh {
			fixture.Elapse(time.Millisecond, "a second has to pass")
		}
	}
	return flow
}

// compare wants explain to name the programs' reason, with all conditions before it passed and none after it
// reached.
func (p *place) compare(e *Explanation, flow *datapath.Flow) {
	p.Helper()
	d := e.Decider()
	if e.Outcome != ByTCP || d == nil || d.Stage != StageMessage || d.Name != flow.Reason.String() {
		p.Errorf("the programs decided %v, explain says %s, %q by %+v", flow.Reason, e.Outcome, e.Answer, d)
		return
	}
	reached := true
	for _, c := range e.Conditions {
		switch {
		case c.Stage != StageMessage:
		case c.Name == d.Name:
			reached = false
		case reached && c.Verdict != Passed && c.Verdict != NotAsked:
			p.Errorf("%s is asked before %s and %s", c.Name, d.Name, c.Verdict)
		case !reached && c.Verdict != NotReached:
			p.Errorf("%s is asked after %s and %s", c.Name, d.Name, c.Verdict)
		}
	}
}

func TestTheOtherEndLeavesToo(t *testing.T) {
	p := newNode(t, plain).place(t)
	sender, reader := p.connect(how{})
	exchange(sender, reader, 3)
	exchange(reader, sender, 3)
	sender.set(unix.IPPROTO_TCP, unix.TCP_CORK, 1)
	sender.sendUntil(reader, objection{reason: datapath.ReasonCorked, until: 200})
	fixture.Wait(t, "the other end leaves", func() bool {
		reader.send(1)
		sender.read(1)
		f := reader.flow()
		return f != nil && f.Mode == datapath.ModeTCP && f.Reason == datapath.ReasonLeaving
	})
	p.compare(reader.explained(sender), reader.flow())
}

// TestTheOrderOfExplainIsThatOfThePrograms brings two objections about at once. The programs name the one
// that they ask first, and so must the table, and explain where it knows.
func TestTheOrderOfExplainIsThatOfThePrograms(t *testing.T) {
	var together []objection
	for _, o := range objections() {
		switch o.reason {
		case datapath.ReasonDisabled, datapath.ReasonZerocopy, datapath.ReasonRcvlowat, datapath.ReasonInq,
			datapath.ReasonShutdown:
			together = append(together, o)
		case datapath.ReasonUnread:
			together = append(together, objection{reason: o.reason, do: bytesOverTCPUnread})
		case datapath.ReasonPolicy, datapath.ReasonOption:
			if o.name == "ports" || o.name == "timestamps" {
				together = append(together, o)
			}
		}
	}
	rank := func(r datapath.Reason) int {
		return slices.IndexFunc(datapath.ReasonTable[:],
			func(row datapath.Condition[datapath.Reason]) bool { return row.Number == r })
	}
	p := newNode(t, plain).place(t)
	for i, a := range together {
		for _, b := range together[i+1:] {
			first, second := a, b
			if rank(b.reason) < rank(a.reason) {
				first, second = b, a
			}
			t.Run(fmt.Sprintf("%v before %v", first.reason, second.reason), func(t *testing.T) {
				p := *p
				p.T = t
				p.both(first, second)
			})
		}
	}
}

// both wants the programs, and explain, to name the first of two reasons.
func (p *place) both(first, second objection) {
	p.Helper()
	sender, reader := p.connect(how{})
	defer func() {
		p.disable(false)
		p.policy(p.db, datapath.Policy{Accelerate: true})
	}()
	exchange(sender, reader, 3)
	for _, o := range []objection{second, first} {
		// Its message has to go over TCP, so it comes before anything that would be in the way.
		if o.reason == datapath.ReasonUnread {
			o.do(sender, reader)
		}
	}
	for _, o := range []objection{second, first} {
		if o.reason != datapath.ReasonUnread {
			o.do(sender, reader)
		}
	}
	before := sender.explained(reader)
	sender.send(100)
	flow := sender.flow()
	if flow == nil || flow.Mode != datapath.ModeTCP || flow.Reason != first.reason {
		p.Fatalf("the programs ask another question first: %+v", flow)
	}
	got := before.predicted()
	if d := before.Decider(); got == "" && d != nil {
		got = d.Name // the next message uses TCP for the reason of the last
	}
	if first.predicted && got != first.reason.String() {
		p.Errorf("explain predicted %q, the programs decided %v", got, first.reason)
	}
	p.compare(sender.explained(reader), flow)
}

func TestEveryReasonIsDriven(t *testing.T) {
	rows := map[datapath.Reason]bool{}
	for _, o := range objections() {
		rows[o.reason] = true
	}
	for _, row := range datapath.ReasonTable {
		if why := undrivenReasons[row.Number]; rows[row.Number] == (why != "") {
			t.Errorf("%s: driven %v, and not driven because of %q", row.Name, rows[row.Number], why)
		}
	}
}
