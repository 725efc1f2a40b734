// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// resultFacts find answers to the questions of datapath.ResultTable. Only the programs know the answers that
// are missing here.
var resultFacts = map[datapath.Result]func(*Facts) finding{
	datapath.ResultForeign: func(f *Facts) finding { return either(f, foreign) },
	datapath.ResultRepair: func(f *Facts) finding {
		return bySocket(f, func(s *Socket) bool { return s.Repair }, "TCP_REPAIR is set")
	},
	datapath.ResultMPTCP: func(f *Facts) finding {
		return bySocket(f, func(s *Socket) bool { return s.MPTCP }, "it is an MPTCP socket")
	},
	datapath.ResultULP: upperLayer,
	datapath.ResultOption: func(f *Facts) finding {
		return bySocket(f, func(s *Socket) bool { return s.ZeroCopy || s.Inq || s.Stamps },
			"SO_ZEROCOPY, TCP_INQ or timestamps are set")
	},
	datapath.ResultHelper:   helper,
	datapath.ResultBlocking: blockingClient,
	datapath.ResultShare: func(f *Facts) finding {
		return either(f, func(e *End) finding { return share(f, e) })
	},
	datapath.ResultMapFull: mapFull,
	datapath.ResultRemote:  otherEnd,
	datapath.ResultDenied:  policy,
	datapath.ResultAvoided: avoided,
	datapath.ResultJoined:  func(*Facts) finding { return unknown("it has not been established yet") },
}

func resultQuestions() []*question { return questions(datapath.ResultTable[:], resultFacts) }

func helper(f *Facts) finding {
	switch {
	case len(f.HelperPorts) == 0:
		return passed("")
	case f.Port == 0:
		return unknown("the server's port is not known")
	case f.helped():
		return decided("port %d is among the ports of helpers: %s", f.Port, rangesText(f.HelperPorts))
	}
	return passed("port %d is not among the ports of helpers: %s", f.Port, rangesText(f.HelperPorts))
}

func mapFull(f *Facts) finding {
	if f.Problem == "" && uint64(f.Sockets) >= uint64(f.Config.MaxSockets) {
		return decided("%d sockets of %d", f.Sockets, f.Config.MaxSockets)
	}
	return passed("%d sockets of %d", f.Sockets, f.Config.MaxSockets)
}

func avoided(f *Facts) finding {
	switch {
	case f.Avoided != nil:
		return avoidedNow(f.Avoided)
	case f.Port == 0 || f.Passive == nil || f.Passive.NetNS == 0:
		return unknown("the server's port, or its network namespace, is not known")
	}
	return passed("port %d is not avoided", f.Port)
}

// bySocket decides by the options of the sender's socket, if they were read.
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
		what = "the destination " + a.Destination.String()
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
		return decided("one runs last at the cgroup of %s", e.Name)
	}
	return passed("")
}
