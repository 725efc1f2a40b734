// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/explain"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
)

// explainLabel is as wide as a mark and the longest name of a condition.
const explainLabel = 20

var marks = map[explain.Verdict]string{
	explain.Passed: "✓", explain.Decided: "✗", explain.NotReached: "·", explain.NotKnown: "?",
	explain.NotAsked: "-",
}

var stageTitles = map[explain.Stage]string{
	explain.StageNode:       "before any connection",
	explain.StageConnection: "once, when it is made",
	explain.StageMessage:    "for each message that it sends",
}

func (a *app) printExplanation(v *explainView) error {
	s := a.screen(explainLabel)
	first := v.Directions[0]
	s.Line("from", "%s", first.From)
	s.Line("to", "%s", first.To)
	switch {
	case v.Matches == 0 && v.Socket == nil:
		s.Line("connections", "none between the two; this is the outcome for a new one")
	case v.Matches > 1:
		s.Line("connections", "%d between the two; this is the youngest; name a port to select another "+
			"(see: sockmapctl flows)", v.Matches)
	}
	s.answer(&first)
	if v.Socket != nil {
		s.Line("socket", "%s", socketText(v.Socket))
	}
	s.conditions(first.Conditions)
	for _, back := range v.Directions[1:] {
		s.Blank()
		s.Line("the other way", "from %s to %s", back.From, back.To)
		s.answer(&back)
	}
	s.Blank()
	s.Line("✓ passed", "✗ decided   · not reached   ? not known   - not asked")
	return s.Flush()
}

func (s *screen) answer(d *directionView) {
	s.Line("answer", "%s", d.Answer)
	if c := d.Decider(); c != nil {
		if c.Detail != "" {
			s.Line("because", "%s", c.Detail)
		}
		s.Line("what changes it", "%s", c.Change)
	}
	if d.Next != "" {
		s.Line("next", "%s", d.Next)
	}
	label := "risks"
	for _, risk := range d.Risks {
		s.Line(label, "%s", risk)
		label = ""
	}
}

func (s *screen) conditions(all []explain.Condition) {
	var stage explain.Stage
	for _, c := range all {
		if c.Stage != stage {
			stage = c.Stage
			s.Title(stageTitles[stage])
		}
		text := c.Question
		if c.Detail != "" {
			text += " – " + c.Detail
		}
		s.Line(fmt.Sprintf("%s %s", marks[c.Verdict], c.Name), "%s", text)
	}
}

func socketText(s *explain.Socket) string {
	parts := []string{live.TCPStateName(s.TCPState)}
	for _, o := range []struct {
		name string
		set  bool
	}{
		{"O_NONBLOCK", s.NonBlocking}, {"SO_ZEROCOPY", s.ZeroCopy}, {"TCP_INQ", s.Inq},
		{"timestamps", s.Stamps},
		{"a filter", s.Filter}, {"TCP_REPAIR", s.Repair}, {"MPTCP", s.MPTCP},
	} {
		if o.set {
			parts = append(parts, o.name)
		}
	}
	if s.RcvLowat != 1 {
		parts = append(parts, fmt.Sprintf("SO_RCVLOWAT %d", s.RcvLowat))
	}
	if s.PeekOff >= 0 {
		parts = append(parts, fmt.Sprintf("SO_PEEK_OFF %d", s.PeekOff))
	}
	if s.ULP != "" {
		parts = append(parts, "TCP_ULP "+s.ULP)
	}
	if len(parts) == 1 {
		parts = append(parts, "blocking, and no option that matters")
	}
	return strings.Join(parts, ", ")
}
