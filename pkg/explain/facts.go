// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

// Facts are the known facts about one direction of a connection, and about the node.
type Facts struct {
	Problem  string // why nothing is loaded, or is unusable; empty: it is loaded
	Config   datapath.Config
	Severe   []string // hazards that are severe and not guarded
	Sender   End
	Receiver End
	Passive  *End              // the passive end, Sender or Receiver; nil: not known
	Port     uint16            // of the passive end; 0: not known
	Avoided  *datapath.Avoided // why a guard keeps such connections on TCP; nil: none does
	Sockets  int               // in the sockhash
	Shares   map[uint64]int    // sockets in the sockhash by netns cookie; 0: unregistered ones

	HelperPorts []datapath.PortRange // ports of conntrack helpers, which stay on TCP; empty: they are ignored

	Flow   *datapath.Flow // the sender's socket; nil: it is not in the sockhash
	Peer   *datapath.Flow // the receiver's
	Socket *Socket        // options of the sender's socket; nil: not read
	Reader *Socket        // options of the receiver's; nil: not read
}

// Place is where an end is.
type Place int

// The places.
const (
	PlaceUnknown Place = iota // the address is in no network namespace that is known here
	PlaceHere
)

// End is one end of a connection.
type End struct {
	Name       string // for people
	Place      Place
	NetNS      uint64               // cookie; 0: not known
	Registered *datapath.Registered // nil: it is not
	Recorded   bool                 // it has an attachment
	Declined   string               // why it is not accelerated, in words
	Why        decline.Reason       // the same as a number
	Linked     Verdict              // Passed: its cgroup has its link; Decided: it has none
	Link       string               // in words
}

// permits is end_permits of bpf/policy.h. why is empty when it does.
func (e *End) permits(other *End, port uint16) (why, change string, known bool) {
	r := e.Registered
	same := e.NetNS == other.NetNS
	switch {
	case r == nil:
		return "", "", true // its cgroup was attached with sockmapctl attach: no policy
	case !r.Accelerate && e.Why == decline.SwitchedOff:
		return e.Name + " is kept on TCP: " + e.Declined, enableChange, true
	case !r.Accelerate:
		return e.Name + " has opted out", optInChange, true
	case e.NetNS == 0 || other.NetNS == 0:
		if r.Peers == datapath.PeersNode {
			return e.permitsPort(port)
		}
		return "", "", false
	case r.Peers == datapath.PeersPod && !same:
		return e.Name + ` has "peers": "pod", and the other end is not in its sandbox`, keyChange("peers"), true
	case r.Peers == datapath.PeersNamespace && !same && (other.Registered == nil ||
		other.Registered.Group != r.Group):
		return e.Name + ` has "peers": "namespace", and the other end is not in its namespace`, keyChange("peers"),
			true
	}
	return e.permitsPort(port)
}

// How an endpoint that is kept on TCP can be accelerated.
const (
	optInChange  = "the annotation sockmap-cni/accelerate when the pod is created again, or the key enabled"
	enableChange = "sockmapctl enable, with what was switched off"
)

func keyChange(key string) string {
	return fmt.Sprintf("the key %s of its conflist, which the agent, or sockmapctl adopt, brings into force",
		key)
}

func (e *End) permitsPort(port uint16) (why, change string, known bool) {
	r := e.Registered
	if len(r.Include)+len(r.Exclude) == 0 {
		return "", "", true
	}
	switch {
	case port == 0:
		return "", "", false
	case len(r.Include) > 0 && !within(r.Include, port):
		return fmt.Sprintf("port %d is not in ports.include of %s: %s", port, e.Name, rangesText(r.Include)),
			keyChange("ports"), true
	case within(r.Exclude, port):
		return fmt.Sprintf("port %d is excluded for %s: %s", port, e.Name, rangesText(r.Exclude)),
			keyChange("ports") + "; or sockmapctl enable --port, if status says that it was switched off", true
	}
	return "", "", true
}

func within(ranges []datapath.PortRange, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r datapath.PortRange) bool { return r.Has(port) })
}

// helped reports whether a conntrack helper reads f.Port: the port of the passive end, or the port that the
// client connected to.
func (f *Facts) helped() bool { return within(f.HelperPorts, f.Port) }

func rangesText(ranges []datapath.PortRange) string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return strings.Join(texts, ", ")
}

// policy checks the policies of both ends, as flow_permitted of bpf/policy.h does.
func policy(f *Facts) finding {
	allKnown := true
	for _, ends := range [][2]*End{{&f.Sender, &f.Receiver}, {&f.Receiver, &f.Sender}} {
		why, change, known := ends[0].permits(ends[1], f.Port)
		if why != "" {
			return finding{Decided, why, change}
		}
		allKnown = allKnown && known
	}
	switch {
	case !allKnown && f.Port == 0:
		return unknown("it depends on the server's port: name it as DST:PORT")
	case !allKnown || f.Receiver.Place == PlaceUnknown:
		return unknown("it depends on the other end")
	}
	return passed("peers and ports of both ends allow it")
}

// either checks a condition that both ends must meet. It returns the finding that decides, or else one that
// is not known.
func either(f *Facts, ask func(*End) finding) finding {
	a, b := ask(&f.Sender), ask(&f.Receiver)
	for _, verdict := range []Verdict{Decided, NotKnown} {
		for _, one := range []finding{a, b} {
			if one.verdict == verdict {
				return one
			}
		}
	}
	switch {
	case a.detail == "":
		return b
	case b.detail != "" && b.detail != a.detail:
		a.detail += "; " + b.detail
	}
	return a
}
