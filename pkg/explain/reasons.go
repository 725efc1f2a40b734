// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

const (
	established = 1
	closeWait   = 8
)

// reasonFacts find answers to the questions of datapath.ReasonTable. Only the programs know the answers that
// are missing here.
var reasonFacts = map[datapath.Reason]func(*Facts) finding{
	datapath.ReasonDisabled: killSwitch,
	datapath.ReasonState:    openState,
	datapath.ReasonULP:      upperLayer,
	datapath.ReasonNoPeer:   joined,
	datapath.ReasonPolicy:   policyOfLiveFlow,
	datapath.ReasonZerocopy: func(f *Facts) finding {
		return bySocket(f, func(s *Socket) bool { return s.ZeroCopy }, "SO_ZEROCOPY is set")
	},
	datapath.ReasonRcvlowat: func(f *Facts) finding {
		return has(f.Reader, func(s *Socket) bool { return s.RcvLowat > 1 }, "SO_RCVLOWAT is higher")
	},
	datapath.ReasonInq: func(f *Facts) finding {
		return has(f.Reader, func(s *Socket) bool { return s.Inq }, "TCP_INQ is set")
	},
	datapath.ReasonOption:       options,
	datapath.ReasonOOB:          observed,
	datapath.ReasonWaitall:      observed,
	datapath.ReasonBlocking:     observed,
	datapath.ReasonDiscard:      observed,
	datapath.ReasonSplice:       observed,
	datapath.ReasonLearning:     observed,
	datapath.ReasonRefresh:      refresh,
	datapath.ReasonEarly:        early,
	datapath.ReasonBacklogBytes: backlog,
}

func reasonQuestions() []*question { return questions(datapath.ReasonTable[:], reasonFacts) }

// questions combines the rows of a table, in their order, with the functions that find the answers.
func questions[Number datapath.Reason | datapath.Result](
	rows []datapath.Condition[Number], facts map[Number]func(*Facts) finding,
) []*question {
	all := make([]*question, 0, len(rows))
	for _, row := range rows {
		all = append(all, &question{row.Name, row.Question, row.Meaning, row.Change, facts[row.Number]})
	}
	return all
}

func joined(f *Facts) finding {
	switch {
	case f.Flow == nil:
		return unknown("")
	case !f.Flow.Joined:
		return decided("no socket has joined so far")
	}
	return passed("")
}

func backlog(f *Facts) finding {
	switch {
	case f.Peer == nil:
		return unknown("")
	case f.Peer.BacklogBytes > f.Config.MaxBacklogBytes:
		return decided("%d bytes wait for the reader now, %d may", f.Peer.BacklogBytes, f.Config.MaxBacklogBytes)
	}
	return passed("%d bytes wait for the reader now, %d may", f.Peer.BacklogBytes, f.Config.MaxBacklogBytes)
}

// options checks timestamps at both ends, and SO_PEEK_OFF and socket filters at the reader only.
func options(f *Facts) finding {
	sender := has(f.Socket, func(s *Socket) bool { return s.Stamps }, "timestamps are set")
	reader := has(f.Reader, func(s *Socket) bool { return s.Stamps || s.Filter || s.PeekOff >= 0 },
		"timestamps, SO_PEEK_OFF or a filter are set")
	if sender.verdict == Decided || reader.verdict == Passed && f.Socket == nil {
		return sender
	}
	return reader
}

// policyOfLiveFlow also checks conntrack helpers: for a live connection they count as policy.
func policyOfLiveFlow(f *Facts) finding {
	if f.helped() {
		return finding{
			Decided, fmt.Sprintf("port %d is that of a conntrack helper of this node", f.Port),
			"the key conntrackHelpers",
		}
	}
	if f.Flow != nil {
		for _, end := range []struct {
			*End
			known bool
		}{{&f.Sender, f.Flow.Known}, {&f.Receiver, f.Flow.PeerKnown}} {
			if end.known && end.Registered == nil {
				return finding{
					Decided, end.Name + " took part and was deleted; what it permitted is not known any more, so it " +
						"permits nothing",
					"a new connection, once its container is added again",
				}
			}
		}
	}
	return policy(f)
}

func refresh(f *Facts) finding {
	if f.Problem == "" && f.Config.NATRefreshSeconds == 0 {
		return notAsked("natRefreshSeconds is 0")
	}
	return unknown("")
}

// early is sleeps_since_handshake of bpf/verdict.h, as far as user space knows the facts.
func early(f *Facts) finding {
	switch {
	case f.Problem == "" && f.Config.Blocking:
		return notAsked("the guard blocking runs")
	case f.Flow == nil:
		return unknown("")
	case f.Flow.Role == datapath.RoleActive:
		return passed("the sender is the client")
	case f.Flow.RedirectedMessages > 0:
		return passed("messages have been redirected before")
	}
	return unknown("")
}

func openState(f *Facts) finding {
	switch {
	case f.Flow == nil:
		return unknown("")
	case f.Flow.State != established && f.Flow.State != closeWait:
		return decided("its TCP state has the number %d", f.Flow.State)
	}
	return passed("")
}

// observed is for habits, which only the observers know.
func observed(f *Facts) finding {
	if f.Problem == "" && !f.Config.Learn {
		return notAsked("no guard observes readers here")
	}
	return unknown("")
}
