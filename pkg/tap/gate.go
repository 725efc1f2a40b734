// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"golang.org/x/time/rate"
)

// Bounds end a capture or thin it out. 0: no bound.
type Bounds struct {
	Rate     uint64 // captured bytes per second; messages beyond it are dropped
	MaxBytes uint64 // captured bytes; a message that would go over them is not taken
	Count    uint64 // messages
}

// Sums count what a gate has let through, and what it has dropped.
type Sums struct {
	Messages, Bytes, Captured    uint64
	DroppedMessages, DroppedPart uint64 // by Rate: messages, and bytes of them that had been captured
}

// Gate lets whole messages through, or nothing of them.
type Gate struct {
	snap    uint32
	bounds  Bounds
	wants   func(*datapath.TapChunk) bool
	limiter *rate.Limiter
	senders *simplelru.LRU[datapath.EndKey, *passage]
	open    int    // messages that are half through
	taken   uint64 // bytes of messages that were let in, captured already or not
	sums    Sums
	full    bool
}

// passage is the message that a sender is in.
type passage struct {
	seq, next uint32
	admitted  bool
	dropped   bool // by the rate
}

// NewGate returns a gate for messages that were captured up to snap bytes. It calls wants once for each
// message; nil: all pass.
func NewGate(snap uint32, b Bounds, wants func(*datapath.TapChunk) bool) *Gate {
	lru, err := simplelru.NewLRU[datapath.EndKey, *passage](maxStreams, nil)
	if err != nil {
		panic(err) // maxStreams is not positive
	}
	g := &Gate{snap: snap, bounds: b, wants: wants, senders: lru}
	if b.Rate > 0 {
		// The burst must hold the largest message, which would otherwise never pass.
		g.limiter = rate.NewLimiter(rate.Limit(b.Rate), int(max(b.Rate, uint64(datapath.TapSnapMax))))
	}
	return g
}

// Admit reports whether this part of a message passes. If the beginning of a message was missed, none of its
// parts pass.
func (g *Gate) Admit(c *datapath.TapChunk) bool {
	p, ok := g.senders.Get(c.Sender)
	if c.Offset == 0 {
		if ok {
			g.leave(p) // its end was lost
		} else {
			p = &passage{}
			g.senders.Add(c.Sender, p)
		}
		*p = g.begin(c)
	} else if !ok || p.seq != c.Seq || p.next != c.Offset {
		return false
	}
	p.next = c.Offset + uint32(len(c.Data))
	admitted := p.admitted
	switch {
	case admitted:
		g.sums.Captured += uint64(len(c.Data))
	case p.dropped:
		g.sums.DroppedPart += uint64(len(c.Data))
	}
	if p.next >= min(g.snap, c.MessageBytes) {
		g.leave(p)
	}
	return admitted
}

func (g *Gate) begin(c *datapath.TapChunk) passage {
	p := passage{seq: c.Seq}
	captured := uint64(min(g.snap, c.MessageBytes))
	if g.full || g.wants != nil && !g.wants(c) {
		return p
	}
	if g.bounds.MaxBytes > 0 && g.taken+captured > g.bounds.MaxBytes {
		g.full = true
		return p
	}
	if g.limiter != nil && !g.limiter.AllowN(time.Now(), int(captured)) {
		g.sums.DroppedMessages++
		p.dropped = true
		return p
	}
	p.admitted = true
	g.open++
	g.taken += captured
	g.sums.Messages++
	g.sums.Bytes += uint64(c.MessageBytes)
	g.full = g.sums.Messages == g.bounds.Count || g.bounds.MaxBytes > 0 && g.taken == g.bounds.MaxBytes
	return p
}

func (g *Gate) leave(p *passage) {
	if p.admitted {
		g.open--
	}
	*p = passage{}
}

// Full reports that no further message will be let through. Done also means that no message is half through.
func (g *Gate) Full() bool { return g.full }

// Done reports that nothing more will come through.
func (g *Gate) Done() bool { return g.full && g.open == 0 }

// Sums returns the sums until now.
func (g *Gate) Sums() Sums { return g.sums }
