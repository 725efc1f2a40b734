// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// reasonOrder is the order of why_tcp in bpf/verdict.h, and of docs/DATAPATH.md.
var reasonOrder = []datapath.Reason{
	datapath.ReasonLeaving, datapath.ReasonDisabled, datapath.ReasonState, datapath.ReasonULP, datapath.ReasonNoPeer, datapath.ReasonPolicy,
	datapath.ReasonShutdown,
	datapath.ReasonZerocopy, datapath.ReasonRcvlowat, datapath.ReasonInq, datapath.ReasonOption,
	datapath.ReasonOOB, datapath.ReasonWaitall, datapath.ReasonBlocking, datapath.ReasonDiscard, datapath.ReasonSplice, datapath.ReasonLearning,
	datapath.ReasonUnread, datapath.ReasonRefresh, datapath.ReasonContended,
	datapath.ReasonCorked, datapath.ReasonPages, datapath.ReasonSmall, datapath.ReasonEarly, datapath.ReasonMemory,
	datapath.ReasonBacklogBytes, datapath.ReasonBacklogMessages, datapath.ReasonPeerLeft,
}

const (
	established = 1
	closeWait   = 8
)

var reasons = map[datapath.Reason]question{
	datapath.ReasonLeaving: {
		ask:    "has neither end left the sockhash, or is about to?",
		means:  "the other end leaves the sockhash, and the connection is plain TCP from then on",
		change: "a new connection; the reason of the other end says why it leaves",
	},
	datapath.ReasonDisabled: {
		ask: "is the kill switch off?", means: "the kill switch is on", change: "sockmapctl enable", now: killSwitch,
	},
	datapath.ReasonState: {
		ask: "is the socket ESTABLISHED or CLOSE_WAIT?", means: "the socket is closing, and TCP gives the answer that it must",
		change: "nothing: it has called shutdown or close", now: openState,
	},
	datapath.ReasonULP: {
		ask: "does no upper-layer protocol own either end?", means: "an upper-layer protocol (kTLS) owns the stream",
		change: "both programs without TCP_ULP", now: upperLayer,
	},
	datapath.ReasonNoPeer: {
		ask: "has the other end joined?", means: "the other end has not joined, or is gone",
		change: "nothing where it was the first message: the next asks again; else see the conditions of the connection",
		now: func(f *Facts) finding {
			switch {
			case f.Flow == nil:
				return unknown("")
			case !f.Flow.Joined:
				return decided("nobody has joined so far")
			}
			return passed("")
		},
	},
	datapath.ReasonPolicy: {
		ask: "do the policies of both ends still agree?", means: "a policy was changed and says no now",
		change: "peers and ports of both conflists, when their containers are added again", now: policyOfLiveFlow,
	},
	datapath.ReasonShutdown: {
		ask:    "has the reader not shut down its receiving side?",
		means:  "the reader has shut down its receiving side, and TCP tells the sender what becomes of more bytes",
		change: "a reader that does not call shutdown with SHUT_RD or SHUT_RDWR while it is sent to",
	},
	datapath.ReasonZerocopy: {
		ask: "has the sender not set SO_ZEROCOPY?", means: "the sender has set SO_ZEROCOPY, whose completions only TCP gives",
		change: "the sender without SO_ZEROCOPY",
		now: func(f *Facts) finding {
			return bySocket(f, func(s *Socket) bool { return s.ZeroCopy }, "SO_ZEROCOPY is set")
		},
	},
	datapath.ReasonRcvlowat: {
		ask: "does the reader wait for single bytes (SO_RCVLOWAT 1)?", means: "the reader has set SO_RCVLOWAT, which only TCP honours",
		change: "the reader with SO_RCVLOWAT 1",
		now: func(f *Facts) finding {
			return has(f.Reader, func(s *Socket) bool { return s.RcvLowat > 1 }, "SO_RCVLOWAT is higher")
		},
	},
	datapath.ReasonInq: {
		ask: "has the reader not set TCP_INQ?", means: "the reader has set TCP_INQ, which only TCP answers", change: "the reader without TCP_INQ",
		now: func(f *Facts) finding { return has(f.Reader, func(s *Socket) bool { return s.Inq }, "TCP_INQ is set") },
	},
	datapath.ReasonOption: {
		ask:    "has neither end set timestamps, SO_PEEK_OFF or a socket filter?",
		means:  "one of the ends has set timestamps, SO_PEEK_OFF or a socket filter, which only TCP honours",
		change: "both programs without SO_TIMESTAMP, SO_TIMESTAMPING, SO_PEEK_OFF and SO_ATTACH_FILTER",
		now:    options,
	},
	datapath.ReasonOOB: {
		ask: "does the sender not use MSG_OOB?", means: "the sender uses MSG_OOB, which only TCP honours",
		change: "the sender without MSG_OOB", now: observed,
	},
	datapath.ReasonWaitall: {
		ask: "does the reader not use MSG_WAITALL?", means: "the reader uses MSG_WAITALL, which only TCP honours",
		change: "the reader without MSG_WAITALL, in a new connection", now: observed,
	},
	datapath.ReasonBlocking: {
		ask: "does the reader not wait inside receive calls?", means: "the reader waits inside receive calls, which only TCP does right",
		change: "a reader that polls, with O_NONBLOCK; or the key guards without blocking", now: observed,
	},
	datapath.ReasonDiscard: {
		ask: "does the reader not use MSG_TRUNC?", means: "the reader uses MSG_TRUNC, which only TCP honours",
		change: "the reader without MSG_TRUNC, in a new connection", now: observed,
	},
	datapath.ReasonSplice: {
		ask: "does the reader not use splice(2)?", means: "the reader uses splice(2), which finds only what came by TCP",
		change: "the reader with read(2) in place of splice(2), in a new connection", now: observed,
	},
	datapath.ReasonLearning: {
		ask:    "is it known how the reader receives, as its descriptor has O_NONBLOCK and is in an epoll set, or by its first receive call?",
		means:  "the reader may wait inside receive calls and has not called one yet, so it is not known how it reads",
		change: "nothing: its first receive call does", now: observed,
	},
	datapath.ReasonUnread: {
		ask:    "has the reader read every byte that went by TCP?",
		means:  "the reader has not read all bytes that went by TCP; it goes back to redirection when it has",
		change: "a reader that keeps up; a stream that outruns its reader stays here until it has caught up",
	},
	datapath.ReasonRefresh: {
		ask: "has this direction sent by TCP within natRefreshSeconds?",
		means: "one message goes by TCP for each natRefreshSeconds, so that conntrack and IPVS see that the connection " +
			"is in use; those after it are redirected again when the reader has read it",
		change: "nothing needs to; the key natRefreshSeconds, where no state of conntrack or IPVS is behind the connection",
		now:    refresh,
	},
	datapath.ReasonContended: {
		ask:    "would a small message not wait for the reader's lock?",
		means:  "the reader is taking bytes on another CPU, and small messages would wait for its lock: TCP is faster for the next 64",
		change: "larger messages: those above 512 bytes are redirected all the same, until a stream of them leaves the sockhash",
	},
	datapath.ReasonCorked: {
		ask:    "does the sender not use TCP_CORK?",
		means:  "the sender uses TCP_CORK: TCP joins what a redirect delivers piece by piece, so the connection is plain TCP now",
		change: "the sender without TCP_CORK (nginx: tcp_nopush off), in a new connection",
	},
	datapath.ReasonPages: {
		ask:    "does the sender not use sendfile(2)?",
		means:  "the sender uses sendfile(2): TCP sends pages that a redirect copies, so the connection is plain TCP now",
		change: "nothing needs to; the sender with write(2) (nginx: sendfile off), in a new connection",
	},
	datapath.ReasonSmall: {
		ask:    "is it no stream of small messages one way?",
		means:  "it was a stream of small messages one way, which TCP joins, so the connection is plain TCP now",
		change: "nothing needs to; larger messages, in a new connection",
	},
	datapath.ReasonEarly: {
		ask: "can no receive call of the client have begun before the handshake ended?",
		means: "a receive call of the client may have begun before the handshake ended, and only bytes by TCP wake it; " +
			"it is so for a server's first message",
		change: "nothing: once the client has read, messages are redirected; a client that polls with epoll does not need it",
		now:    early,
	},
	datapath.ReasonMemory: {
		ask: "is there memory for sockets, on the node and in the reader's cgroup, by a margin?",
		means: "the node (tcp_mem), or the memory cgroup of the reader or one above it, is short of memory, and a send could " +
			"fail with ENOMEM",
		change: "a higher memory limit of the reader's container, or readers that keep up; for the node, the sysctl " +
			"net.ipv4.tcp_mem",
	},
	datapath.ReasonBacklogBytes: {
		ask: "would no more than maxBacklogBytes wait for the reader?", means: "the reader is behind by more bytes than may wait",
		change: "a reader that keeps up, or the key maxBacklogBytes; a sender that has set SO_SNDBUF has that bound",
		now: func(f *Facts) finding {
			switch {
			case f.Peer == nil:
				return unknown("")
			case f.Peer.BacklogBytes > f.Config.MaxBacklogBytes:
				return decided("%d bytes wait for the reader now, %d may", f.Peer.BacklogBytes, f.Config.MaxBacklogBytes)
			}
			return passed("%d bytes wait for the reader now, %d may", f.Peer.BacklogBytes, f.Config.MaxBacklogBytes)
		},
	},
	datapath.ReasonBacklogMessages: {
		ask: "would no more than maxBacklogMessages wait for the reader?", means: "the reader is behind by more messages than may wait",
		change: "a reader that keeps up, larger messages, or the key maxBacklogMessages",
	},
	datapath.ReasonPeerLeft: {
		ask: "did the redirect find the other end?", means: "the redirect found no socket: the other end is closing",
		change: "nothing: the connection ends",
	},
}

func reasonQuestions() []*question {
	questions := make([]*question, 0, len(reasonOrder))
	for _, r := range reasonOrder {
		q := reasons[r]
		q.name = r.String()
		questions = append(questions, &q)
	}
	return questions
}

// options asks of the reader more than of the sender, of which only timestamps count.
func options(f *Facts) finding {
	sender := has(f.Socket, func(s *Socket) bool { return s.Stamps }, "timestamps are set")
	reader := has(f.Reader, func(s *Socket) bool { return s.Stamps || s.Filter || s.PeekOff >= 0 },
		"timestamps, SO_PEEK_OFF or a filter are set")
	if sender.verdict == Decided || reader.verdict == Passed && f.Socket == nil {
		return sender
	}
	return reader
}

// policyOfLiveFlow asks for helpers, too: they count as policy once a connection is made.
func policyOfLiveFlow(f *Facts) finding {
	if f.helped() {
		return finding{
			Decided, fmt.Sprintf("port %d is that of a conntrack helper of this node", f.Port), "the key conntrackHelpers",
		}
	}
	if f.Flow != nil {
		for _, end := range []struct {
			*End
			known bool
		}{{&f.Sender, f.Flow.Known}, {&f.Receiver, f.Flow.PeerKnown}} {
			if end.known && end.Registered == nil {
				return finding{
					Decided, end.Name + " took part and was deleted; what it permitted is not known any more, so it permits nothing",
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

// early is sleeps_since_handshake of bpf/verdict.h, as far as it can be known.
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

// observed is for what the guards watch.
func observed(f *Facts) finding {
	if f.Problem == "" && !f.Config.Learn {
		return notAsked("no guard observes readers here")
	}
	return unknown("")
}
