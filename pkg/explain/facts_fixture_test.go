// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"os"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// flow finds the socket among the live flows; nil when it is not in the sockhash.
func (e *end) flow() (found *datapath.Flow) {
	e.Helper()
	own := e.socket()
	err := e.d.Flows(func(f datapath.Flow) bool {
		if f.NetNSCookie == e.pod.Cookie && f.Local == own.Local && f.Remote == own.Remote {
			found = &f
		}
		return found == nil
	})
	if err != nil {
		e.Fatal(err)
	}
	return found
}

func (e *end) socket() *Socket {
	e.Helper()
	s, err := ReadSocket(os.Getpid(), e.fd)
	if err != nil {
		e.Fatal(err)
	}
	return s
}

// facts are the input of explain for the direction from e to the reader; without sockets, for a connection
// that does not exist yet.
func (p *place) facts(from, to *testPod, port uint16) *Facts {
	p.Helper()
	f := &Facts{Sender: p.endOf(from), Receiver: p.endOf(to), Port: port}
	f.Passive = &f.Receiver
	var (
		err     error
		ignored bool
	)
	if f.Config, err = p.d.Config(); err != nil {
		p.Fatal(err)
	}
	if f.Shares, err = p.d.SocketShares(); err != nil {
		p.Fatal(err)
	}
	if f.HelperPorts, ignored, err = p.d.HelperPorts(); err != nil || ignored {
		p.Fatalf("helper ports: ignored %v, %v", ignored, err)
	}
	avoided, err := p.d.ListAvoided()
	if err != nil {
		p.Fatal(err)
	}
	for i := range avoided {
		if c := avoided[i].NetNSCookie; (c == from.Cookie || c == to.Cookie) && avoided[i].Port == port {
			f.Avoided = &avoided[i]
		}
	}
	if err := p.d.Flows(func(datapath.Flow) bool { f.Sockets++; return true }); err != nil {
		p.Fatal(err)
	}
	return f
}

func (p *place) endOf(pod *testPod) End {
	p.Helper()
	e := End{Name: pod.name, Place: PlaceHere, NetNS: pod.Cookie, Linked: Passed, Link: "attached"}
	r, ok, err := p.d.Endpoint(pod.Cookie)
	if err != nil {
		p.Fatal(err)
	}
	if ok {
		e.Registered, e.Recorded = &r, true
		if !r.Accelerate {
			e.Declined = "the annotation"
		}
	}
	return e
}

// explained is the explanation of the direction in which e sends.
func (e *end) explained(reader *end) *Explanation {
	e.Helper()
	f := e.facts(e.pod, reader.pod, e.port)
	f.Flow, f.Peer, f.Socket, f.Reader = e.flow(), reader.flow(), e.socket(), reader.socket()
	if f.Flow != nil && f.Flow.Role == datapath.RolePassive || f.Socket.Local.Port() == e.port {
		f.Passive = &f.Sender
	}
	return Explain(f)
}

// predicted is the reason for which the next message uses TCP, according to explain, before it is sent;
// empty: explain names none.
func (e *Explanation) predicted() string {
	for _, row := range datapath.ReasonTable {
		if strings.HasSuffix(e.Next, ": "+row.Meaning) ||
			strings.HasSuffix(e.Answer, "it would use TCP: "+row.Meaning) {
			return row.Name
		}
	}
	return ""
}
