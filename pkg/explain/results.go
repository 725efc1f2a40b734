// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// resultOrder is the order in which bpf/pairing.h and bpf/leaving.h ask. ResultJoined is what is left.
var resultOrder = []datapath.Result{
	datapath.ResultForeign,
	datapath.ResultRepair, datapath.ResultMPTCP, datapath.ResultULP, datapath.ResultOption, datapath.ResultHelper,
	datapath.ResultBlocking,
	datapath.ResultShort, datapath.ResultStream, datapath.ResultCollision, datapath.ResultShare, datapath.ResultMapFull, datapath.ResultError,
	datapath.ResultRemote, datapath.ResultDenied,
	datapath.ResultAvoided, datapath.ResultJoined,
}

var results = map[datapath.Result]question{
	datapath.ResultForeign: {
		ask:   "does no other sock_ops program run last at the cgroup of either end?",
		means: "a sock_ops program of somebody else runs last at the cgroup of an end, and could take sockmap's callbacks away",
		change: "that program attached in a way that lets others run after it; sockmapctl status names it. " +
			"Where it is gone: sockmapctl gc, or the next ADD",
		now: func(f *Facts) finding { return either(f, foreign) },
	},
	datapath.ResultRepair: {
		ask: "did a packet make it?", means: "TCP_REPAIR made it, and its sequence numbers are whatever its owner says",
		change: "nothing; a connection that connect(2) makes",
		now: func(f *Facts) finding {
			return bySocket(f, func(s *Socket) bool { return s.Repair }, "TCP_REPAIR is set")
		},
	},
	datapath.ResultMPTCP: {
		ask: "is it plain TCP, and not a subflow of MPTCP?", means: "it is a subflow of a multipath connection",
		change: "a socket without IPPROTO_MPTCP",
		now: func(f *Facts) finding {
			return bySocket(f, func(s *Socket) bool { return s.MPTCP }, "it is an MPTCP socket")
		},
	},
	datapath.ResultULP: {
		ask: "does no upper-layer protocol own the stream?", means: "an upper-layer protocol owns the stream",
		change: "a socket without TCP_ULP (kTLS) when it connects", now: upperLayer,
	},
	datapath.ResultOption: {
		ask: "was no option set that only TCP honours?", means: "an option that only TCP honours was set before it was connected",
		change: "no SO_ZEROCOPY, TCP_INQ, SO_TIMESTAMP or SO_TIMESTAMPING on the socket when it connects, or on the listener",
		now: func(f *Facts) finding {
			return bySocket(f, func(s *Socket) bool { return s.ZeroCopy || s.Inq || s.Stamps }, "SO_ZEROCOPY, TCP_INQ or timestamps are set")
		},
	},
	datapath.ResultHelper: {
		ask: "does no conntrack helper of this node read this port?", means: "a conntrack helper of this node reads this port, and sees packets only",
		change: "the key conntrackHelpers, or a kernel without that helper; sockmapctl status names them",
		now: func(f *Facts) finding {
			switch {
			case len(f.HelperPorts) == 0:
				return passed("")
			case f.Port == 0:
				return unknown("the server's port is not known")
			case f.helped():
				return decided("port %d is among those of helpers: %s", f.Port, rangesText(f.HelperPorts))
			}
			return passed("port %d is not among those of helpers: %s", f.Port, rangesText(f.HelperPorts))
		},
	},
	datapath.ResultBlocking: {
		ask: "is the client's descriptor non-blocking, where the guard blocking runs?", means: "the client's descriptor is blocking",
		change: "O_NONBLOCK on the socket before connect, or the key guards without blocking",
		now:    blockingClient,
	},
	datapath.ResultShort: {
		ask:    "were earlier connections to this destination worth it?",
		means:  "the last 256 connections to this destination ended after a few messages",
		change: "a connection that is kept for more than a few messages; one for each 50 ms is let in to see",
	},
	datapath.ResultStream: {
		ask:    "did earlier connections to this destination gain by being redirected?",
		means:  "the last 4 connections to this destination left the sockhash, because they gained nothing",
		change: "nothing needs to; one for each second is let in to see",
	},
	datapath.ResultCollision: {
		ask: "has no other flow the same two sequence numbers?", means: "another flow has the same two initial sequence numbers",
		change: "the next connection has others",
	},
	datapath.ResultShare: {
		ask:    "has its pod less than its share, or is there much room in the sockhash?",
		means:  "its pod has more than a quarter of the sockhash, and more than half of it is taken",
		change: "fewer connections of that pod at a time; or the key maxSockets, then sockmapctl unload",
		now:    func(f *Facts) finding { return either(f, func(e *End) finding { return share(f, e) }) },
	},
	datapath.ResultMapFull: {
		ask: "is there room in the sockhash?", means: "the sockhash is full",
		change: "the key maxSockets, then sockmapctl unload",
		now: func(f *Facts) finding {
			if f.Problem == "" && uint64(f.Sockets) >= uint64(f.Config.MaxSockets) {
				return decided("%d sockets of %d", f.Sockets, f.Config.MaxSockets)
			}
			return passed("%d sockets of %d", f.Sockets, f.Config.MaxSockets)
		},
	},
	datapath.ResultError: {
		ask: "was there memory, and is the socket in no other sockmap?", means: "there was no memory, or the socket is in another sockmap",
		change: "no other program that puts this container's sockets into a sockmap",
	},
	datapath.ResultRemote: {
		ask: "is the other end on this node, too?", means: "the other end is not in an endpoint of this node",
		change: "both ends in containers of this node that take part", now: otherEnd,
	},
	datapath.ResultDenied: {
		ask: "do the policies of both ends agree?", means: "peers or ports of one of the ends say no",
		change: "peers and ports of both conflists, when their containers are added again", now: policy,
	},
	datapath.ResultAvoided: {
		ask:    "have earlier flows to this port done nothing that only TCP does right?",
		means:  "an earlier flow did what only TCP does right: its server in receiving, or its client in sending there",
		change: "a program without MSG_WAITALL, MSG_TRUNC, MSG_OOB or blocking receive calls; then sockmapctl forget, or wait as sockmapctl avoided says",
		now: func(f *Facts) finding {
			switch {
			case f.Avoided != nil:
				return avoidedNow(f.Avoided)
			case f.Port == 0 || f.Passive == nil || f.Passive.NetNS == 0:
				return unknown("the server's port, or its network namespace, is not known")
			}
			return passed("port %d is not avoided", f.Port)
		},
	},
	datapath.ResultJoined: {
		ask: "are both ends in the sockhash?", means: "the other end has not joined", change: "see the conditions before",
		now: func(f *Facts) finding { return unknown("it has not been made yet") },
	},
}

func resultQuestions() []*question {
	questions := make([]*question, 0, len(resultOrder))
	for _, r := range resultOrder {
		q := results[r]
		q.name = r.String()
		questions = append(questions, &q)
	}
	return questions
}

// bySocket answers with what the sender's socket has set, where somebody looked.
func bySocket(f *Facts, against func(*Socket) bool, detail string) finding {
	return has(f.Socket, against, detail)
}

func has(s *Socket, against func(*Socket) bool, detail string) finding {
	switch {
	case s == nil:
		return unknown("")
	case against(s):
		return decided("%s", detail)
	}
	return passed("as the socket is now")
}

func upperLayer(f *Facts) finding {
	for _, s := range []*Socket{f.Socket, f.Reader} {
		if s != nil && s.ULP != "" {
			return decided("TCP_ULP is %s", s.ULP)
		}
	}
	return bySocket(f, func(*Socket) bool { return false }, "")
}

func blockingClient(f *Facts) finding {
	switch {
	case f.Problem == "" && !f.Config.Blocking:
		return passed("the guard does not run here")
	case f.Socket == nil || f.Passive == &f.Sender:
		return unknown("")
	case !f.Socket.NonBlocking:
		return decided("O_NONBLOCK is not set")
	}
	return passed("O_NONBLOCK is set")
}

func otherEnd(f *Facts) finding {
	if f.Receiver.Place == PlaceUnknown {
		return unknown("%s is in no network namespace that is known here", f.Receiver.Name)
	}
	return passed("%s is", f.Receiver.Name)
}

func avoidedNow(a *datapath.Avoided) finding {
	why := make([]string, len(a.Why))
	for i, r := range a.Why {
		why[i] = r.String()
	}
	what := fmt.Sprintf("port %d", a.Port)
	if a.Destination.IsValid() {
		what = a.Destination.String() + " from there"
	}
	return decided("%s is avoided for another %v: %s", what, a.Left.Round(time.Second), strings.Join(why, ", "))
}

// share is has_its_share of bpf/share.h.
func share(f *Facts, e *End) finding {
	if f.Problem != "" || e.NetNS == 0 {
		return unknown("")
	}
	cookie := e.NetNS
	if _, own := f.Shares[cookie]; !own {
		cookie = 0
	}
	room, has := int(f.Config.MaxSockets), f.Shares[cookie]
	if has > room/datapath.ShareDivisor && f.Sockets > room/2 {
		return decided("%s has %d of %d sockets in a sockhash of %d", e.Name, has, f.Sockets, room)
	}
	return passed("%s has %d sockets", e.Name, has)
}

func foreign(e *End) finding {
	if e.Registered != nil && e.Registered.Foreign {
		return decided("it does at the cgroup of %s", e.Name)
	}
	return passed("")
}
