// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"net/netip"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

const (
	// maxStreams is the number of streams that are remembered. A forgotten one continues like one that was
	// not seen from its first byte.
	maxStreams = 1 << 16
	// maxSegment is the largest payload of a segment that only has a length.
	maxSegment = 32 << 10
)

// Segment is a TCP segment that could have carried a part of a message.
type Segment struct {
	Time     time.Duration // CLOCK_MONOTONIC
	From, To netip.AddrPort
	Seq, Ack uint32
	SYN, PSH bool
	ACK      bool
	Payload  []byte // as far as it was captured
	Length   int    // bytes of the payload as it was sent
	First    bool   // of its stream, as far as seen
}

// stream is the state of one connection, by role of the sender.
type stream struct{ next [2]uint32 }

// Streams turns parts of messages into segments.
type Streams struct {
	snap    uint32
	streams *simplelru.LRU[datapath.EndKey, *stream]
}

// NewStreams returns Streams for messages that were captured up to snap bytes.
func NewStreams(snap uint32) *Streams {
	lru, err := simplelru.NewLRU[datapath.EndKey, *stream](maxStreams, nil)
	if err != nil {
		panic(err) // maxStreams is not positive
	}
	return &Streams{snap, lru}
}

// activeKey is the key of the active end, which stands for both directions of a connection.
func activeKey(c *datapath.TapChunk) datapath.EndKey {
	if c.Role == datapath.RoleActive {
		return c.Sender
	}
	return c.Sender.Mirror()
}

// Add calls yield for the segments of c, after a handshake if c has the first byte of its connection. Parts
// of one message must come in order.
func (s *Streams) Add(c *datapath.TapChunk, yield func(*Segment) error) error {
	key := activeKey(c)
	st, known := s.streams.Get(key)
	if !known {
		// The position of the other direction is not known yet. It is behind its first byte.
		st = &stream{next: [2]uint32{key.Own + 1, key.Peer + 1}}
		s.streams.Add(key, st)
		if c.Seq == c.Sender.Own+1 && c.Offset == 0 {
			if err := handshake(c, key, yield); err != nil {
				return err
			}
			known = true
		}
	}
	return s.payload(c, st, !known, yield)
}

func handshake(c *datapath.TapChunk, key datapath.EndKey, yield func(*Segment) error) error {
	for _, seg := range []Segment{
		{From: c.Active, To: c.Passive, Seq: key.Own, SYN: true, First: true},
		{From: c.Passive, To: c.Active, Seq: key.Peer, Ack: key.Own + 1, SYN: true, ACK: true},
		{From: c.Active, To: c.Passive, Seq: key.Own + 1, Ack: key.Peer + 1, ACK: true},
	} {
		seg.Time = c.Time
		if err := yield(&seg); err != nil {
			return err
		}
	}
	return nil
}

func (s *Streams) payload(c *datapath.TapChunk, st *stream, first bool, yield func(*Segment) error) error {
	from, to := c.Active, c.Passive
	if c.Role == datapath.RolePassive {
		from, to = to, from
	}
	own, peer := &st.next[c.Role&1], st.next[1-c.Role&1]
	end := c.Offset + uint32(len(c.Data))
	// The last captured part also has the length of the rest of the message.
	left := uint32(0)
	if end >= min(s.snap, c.MessageBytes) {
		left = c.MessageBytes - end
	}
	seg := Segment{
		Time: c.Time, From: from, To: to, Seq: c.Seq + c.Offset, Ack: peer, ACK: true, First: first,
		Payload: c.Data, Length: len(c.Data),
	}
	for {
		more := min(left, uint32(max(0, maxSegment-seg.Length)))
		seg.Length += int(more)
		left -= more
		next := seg.Seq + uint32(seg.Length)
		seg.PSH = next == c.Seq+c.MessageBytes
		if int32(next-*own) > 0 {
			*own = next
		}
		if err := yield(&seg); err != nil || left == 0 {
			return err
		}
		seg.Seq, seg.Payload, seg.Length, seg.First = next, nil, 0, false
	}
}
