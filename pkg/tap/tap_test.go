// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

var (
	client = netip.MustParseAddrPort("10.0.0.1:40000")
	server = netip.MustParseAddrPort("10.0.0.2:80")
)

// said is a message of the client, or the server, that begins `at` bytes into its stream.
func said(role datapath.Role, isn datapath.EndKey, at uint32, message string) *datapath.TapChunk {
	c := &datapath.TapChunk{
		Role: role, Sender: isn, Seq: isn.Own + 1 + at, MessageBytes: uint32(len(message)), Data: []byte(message),
		Active: client, Passive: server, Redirected: true,
	}
	if role == datapath.RolePassive {
		c.Sender = isn.Mirror()
		c.Seq = isn.Peer + 1 + at
	}
	return c
}

// seg is what the tests compare.
type seg struct {
	From, Flags string
	Seq, Ack    uint32
	Payload     string
	Length      int
}

func segments(t *testing.T, s *Streams, chunks ...*datapath.TapChunk) (all []seg) {
	t.Helper()
	for _, c := range chunks {
		err := s.Add(c, func(g *Segment) error {
			flags := ""
			for _, f := range []struct {
				on   bool
				name string
			}{{g.SYN, "S"}, {g.PSH, "P"}, {g.ACK, "."}} {
				if f.on {
					flags += f.name
				}
			}
			all = append(all, seg{g.From.String(), flags, g.Seq, g.Ack, string(g.Payload), g.Length})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func want(t *testing.T, got, want []seg) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

const whole = datapath.TapSnapMax

func TestAStreamBeginsWithItsHandshake(t *testing.T) {
	isn := datapath.EndKey{Own: 100, Peer: 0xffff_fffe} // the server's numbers wrap around in its first message
	got := segments(t, NewStreams(whole), said(datapath.RoleActive, isn, 0, "ping"),
		said(datapath.RolePassive, isn, 0, "pong"),
		said(datapath.RoleActive, isn, 4, "bye"), said(datapath.RolePassive, isn, 4, "bye"))
	c, s := client.String(), server.String()
	want(t, got, []seg{
		{c, "S", 100, 0, "", 0}, {s, "S.", 0xffff_fffe, 101, "", 0}, {c, ".", 101, 0xffff_ffff, "", 0},
		{c, "P.", 101, 0xffff_ffff, "ping", 4}, {s, "P.", 0xffff_ffff, 105, "pong", 4},
		{c, "P.", 105, 3, "bye", 3}, {s, "P.", 3, 108, "bye", 3},
	})
}

func TestAServerMaySpeakFirst(t *testing.T) {
	isn := datapath.EndKey{Own: 100, Peer: 200}
	got := segments(t, NewStreams(whole), said(datapath.RolePassive, isn, 0, "hello"))
	want(t, got, []seg{
		{client.String(), "S", 100, 0, "", 0}, {server.String(), "S.", 200, 101, "", 0},
		{client.String(), ".", 101, 201, "", 0},
		{server.String(), "P.", 201, 101, "hello", 5},
	})
}

func TestAStreamThatIsSeenFromItsMiddleHasNoHandshake(t *testing.T) {
	isn := datapath.EndKey{Own: 100, Peer: 200}
	got := segments(t, NewStreams(whole), said(datapath.RoleActive, isn, 10, "ping"),
		said(datapath.RolePassive, isn, 0, "pong"))
	want(t, got, []seg{{client.String(), "P.", 111, 201, "ping", 4},
		{server.String(), "P.", 201, 115, "pong", 4}})
}

func TestRestOfACutMessageIsCountedInSegments(t *testing.T) {
	isn := datapath.EndKey{Own: 100, Peer: 200}
	s := NewStreams(3)
	segments(t, s, said(datapath.RolePassive, isn, 0, ""))
	c := said(datapath.RoleActive, isn, 0, "abc")
	c.MessageBytes = 70_000
	got := segments(t, s, c)
	from := client.String()
	want(t, got, []seg{
		{from, ".", 101, 201, "abc", 32768}, {from, ".", 32869, 201, "", 32768}, {from, "P.", 65637, 201, "", 4464},
	})
}

func TestPartsOfAMessageHaveConsecutiveSequenceNumbers(t *testing.T) {
	isn := datapath.EndKey{Own: 100, Peer: 200}
	one, two := said(datapath.RoleActive, isn, 0, "abcd"), said(datapath.RoleActive, isn, 0, "abcd")
	one.Data, two.Data, two.Offset = one.Data[:3], two.Data[3:], 3
	got := segments(t, NewStreams(whole), one, two)[3:]
	want(t, got, []seg{{client.String(), ".", 101, 201, "abc", 3}, {client.String(), "P.", 104, 201, "d", 1}})
}

func TestGateAdmitsWholeMessagesOnly(t *testing.T) {
	isn := datapath.EndKey{Own: 100, Peer: 200}
	part := func(at uint32, offset, end int) *datapath.TapChunk {
		c := said(datapath.RoleActive, isn, at, "abcdefgh")
		c.Offset, c.Data = uint32(offset), c.Data[offset:end]
		return c
	}
	g := NewGate(whole, Bounds{Count: 2}, nil)
	other := said(datapath.RolePassive, isn, 0, "pong")
	for i, step := range []struct {
		c    *datapath.TapChunk
		want bool
	}{
		{part(0, 4, 8), false}, // its beginning was lost
		{part(8, 0, 4), true},
		{other, true}, // the second, in the middle of the first
		{said(datapath.RolePassive, isn, 4, "more"), false},
		{part(8, 4, 8), true},
		{part(16, 0, 8), false},
	} {
		if g.Done() != (i > 4) {
			t.Errorf("step %d: done: %v", i, g.Done())
		}
		if got := g.Admit(step.c); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if want := (Sums{Messages: 2, Bytes: 12, Captured: 12}); g.Sums() != want {
		t.Errorf("%+v, want %+v", g.Sums(), want)
	}
}

func TestGateEndsBeforeMaxBytes(t *testing.T) {
	isn := datapath.EndKey{Own: 100, Peer: 200}
	g := NewGate(2, Bounds{MaxBytes: 5}, nil)
	for i, want := range []bool{true, true, false, false} {
		c := said(datapath.RoleActive, isn, uint32(4*i), "ping")
		c.Data = c.Data[:2]
		if got := g.Admit(c); got != want {
			t.Errorf("message %d: %v", i, got)
		}
	}
	if s := g.Sums(); s.Captured != 4 || s.Bytes != 8 || !g.Done() {
		t.Errorf("%+v, done: %v", s, g.Done())
	}
}

func TestTheCaptureIsReadBack(t *testing.T) {
	for _, tt := range []struct{ name, from, to string }{
		{"IPv4", "10.0.0.1:40000", "10.0.0.2:80"}, {"IPv6", "[fd00::1]:40000", "[fd00::2]:80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var file bytes.Buffer
			zero := time.Unix(1_700_000_000, 123)
			w, err := NewWriter(&file, "v1", "--port 80", zero)
			if err != nil {
				t.Fatal(err)
			}
			intf, err := w.Interface(7, func() string { return "shop/web-0" })
			if err != nil {
				t.Fatal(err)
			}
			s := &Segment{
				Time: time.Second, From: netip.MustParseAddrPort(tt.from), To: netip.MustParseAddrPort(tt.to),
				Seq: 5, Ack: 6, PSH: true, ACK: true, Payload: []byte("abc"), Length: 1000,
			}
			if err := errors.Join(w.Write(s, intf, "who"), w.Finish(zero, 9)); err != nil {
				t.Fatal(err)
			}
			r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
			if err != nil {
				t.Fatal(err)
			}
			data, info, options, err := r.ReadPacketDataWithOptions()
			if err != nil {
				t.Fatal(err)
			}
			if len(options.Comments) != 1 || options.Comments[0] != "who" ||
				!info.Timestamp.Equal(zero.Add(time.Second)) {
				t.Errorf("comments %q, time %v", options.Comments, info.Timestamp)
			}
			if info.Length-info.CaptureLength != 997 {
				t.Errorf("%d of %d bytes", info.CaptureLength, info.Length)
			}
			p := gopacket.NewPacket(data, layers.LinkTypeRaw, gopacket.Default)
			tcp, ok := p.TransportLayer().(*layers.TCP)
			if !ok || tcp.Seq != 5 || tcp.Ack != 6 || !tcp.PSH || tcp.SYN || string(tcp.Payload) != "abc" {
				t.Errorf("%v", p)
			}
			if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
				t.Errorf("behind the packet: %v", err)
			}
			if i, err := r.Interface(0); err != nil || i.Statistics.PacketsDropped != 9 || i.Filter != "--port 80" ||
				i.Description == "" {
				t.Errorf("interface: %+v, %v", i, err)
			}
			if i, err := r.Interface(intf); err != nil || i.Name != "shop/web-0" {
				t.Errorf("interface of the packet: %+v, %v", i, err)
			}
		})
	}
}
