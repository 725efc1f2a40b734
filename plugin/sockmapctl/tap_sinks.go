// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/tap"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// tapPrinter writes a line for each message, in the manner of tcpdump.
type tapPrinter struct {
	out   *bufio.Writer
	names *tapNames
	zero  time.Time
	next  *tap.Streams
}

func newTapPrinter(w io.Writer, names *tapNames) *tapPrinter {
	return &tapPrinter{bufio.NewWriter(w), names, datapath.MonotonicZero(), tap.NewStreams(names.snap())}
}

func (p *tapPrinter) add(c *datapath.TapChunk) error {
	if c.Offset > 0 {
		return nil
	}
	from, to := c.Active, c.Passive
	if c.Role == datapath.RolePassive {
		from, to = to, from
	}
	family := "IP"
	if from.Addr().Is6() {
		family = "IP6"
	}
	how := "redirect"
	if !c.Redirected {
		how = "tcp"
	}
	var ack uint32
	err := p.next.Add(c, func(seg *tap.Segment) error { ack = seg.Ack; return nil })
	if err != nil {
		return err
	}
	seq := c.Seq - c.Sender.Own
	_, err = fmt.Fprintf(p.out, "%s %s %s > %s: seq %d:%d, ack %d, length %d: %s, %s > %s\n",
		p.zero.Add(c.Time).Format("15:04:05.000000"), family, from, to, seq, seq+c.MessageBytes,
		ack-c.Sender.Peer, c.MessageBytes,
		how, orUnknown(p.names.label(c.NetNSCookie)), orUnknown(p.names.label(c.PeerNetNSCookie)))
	return err
}

func orUnknown(label string) string {
	if label == "" {
		return "?"
	}
	return term.Printable(label)
}

func (p *tapPrinter) flush() error { return p.out.Flush() }

func (p *tapPrinter) finish(uint64) error { return p.flush() }

// tapCapture writes pcapng.
type tapCapture struct {
	out     *tap.Writer
	names   *tapNames
	streams *tap.Streams
	began   time.Time
}

func newTapCapture(w io.Writer, names *tapNames, began time.Time) (*tapCapture, error) {
	out, err := tap.NewWriter(w, version.String(), names.flags.String(), datapath.MonotonicZero())
	if err != nil {
		return nil, err
	}
	return &tapCapture{out, names, tap.NewStreams(names.snap()), began}, nil
}

func (t *tapCapture) add(c *datapath.TapChunk) error {
	passive := c.NetNSCookie
	if c.Role == datapath.RoleActive {
		passive = c.PeerNetNSCookie
	}
	intf, err := t.out.Interface(passive, func() string { return orUnknown(t.names.label(passive)) })
	if err != nil {
		return err
	}
	return t.streams.Add(c, func(seg *tap.Segment) error {
		return t.out.Write(seg, intf, t.comment(c, seg))
	})
}

// comment names the ends, once for each connection, and marks each message that used TCP.
func (t *tapCapture) comment(c *datapath.TapChunk, seg *tap.Segment) string {
	switch {
	case seg.First:
		active, passive := c.NetNSCookie, c.PeerNetNSCookie
		if c.Role == datapath.RolePassive {
			active, passive = passive, active
		}
		return fmt.Sprintf("client %s (netns %d), server %s (netns %d)",
			orUnknown(t.names.label(active)), active, orUnknown(t.names.label(passive)), passive)
	case !c.Redirected && c.Offset == 0 && len(seg.Payload) > 0:
		return "over TCP"
	}
	return ""
}

func (t *tapCapture) flush() error { return t.out.Flush() }

func (t *tapCapture) finish(dropped uint64) error { return t.out.Finish(t.began, dropped) }
