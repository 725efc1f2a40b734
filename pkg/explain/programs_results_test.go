// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// made is a situation in which a connection is established.
type made struct {
	result  datapath.Result
	name    string // distinguishes rows of one result
	guard   string // it needs this guard
	passive bool   // the server's end has the result, and its direction is explained
	how     how
	// connections until one has the result, as some enter the sockhash as samples; 0: 1
	tries   int
	maximum uint32                   // entries of the sockhash; 0: that of plain
	before  func(p *place, port int) // before the connection
	// By explain: before the connection is made, from policies; and afterwards, from the socket too. Empty: it
	// names nothing.
	predicted, named string
}

const (
	denied = "denied"
	port   = 8080
)

func prepare(level, option, value int) func(fd int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, level, option, value) }
}

func policies(web, db datapath.Policy) func(p *place, port int) {
	return func(p *place, _ int) {
		web.Accelerate, db.Accelerate = true, true
		p.policy(p.web, web)
		p.policy(p.db, db)
	}
}

func ports(first, last uint16) []datapath.PortRange {
	return []datapath.PortRange{{First: first, Last: last}}
}

// connections has at least one row for each result that can be driven here.
func connections() []made {
	inside := func(peers datapath.Peers, namespace string) datapath.Policy {
		return datapath.Policy{Peers: peers, Namespace: namespace}
	}
	deniedRow := func(name string, web, db datapath.Policy) made {
		return made{
			result: datapath.ResultDenied, name: name, passive: true, before: policies(web, db), predicted: denied,
			named: denied,
		}
	}
	joinedRow := func(name string, web, db datapath.Policy) made {
		return made{result: datapath.ResultJoined, name: name, before: policies(web, db)}
	}
	return []made{
		{result: datapath.ResultJoined},
		joinedRow("one namespace", inside(datapath.PeersNamespace, "shop"),
			inside(datapath.PeersNamespace, "shop")),
		joinedRow("included", datapath.Policy{Include: ports(8000, 8999)},
			datapath.Policy{Include: ports(port, port)}),
		joinedRow("not excluded", datapath.Policy{Exclude: ports(1, port-1)},
			datapath.Policy{Exclude: ports(port+1, 65535)}),
		deniedRow("another namespace", inside(datapath.PeersNamespace, "shop"), inside(datapath.PeersNode, "evil")),
		deniedRow("another namespace of the server's", inside(datapath.PeersNode, "shop"),
			inside(datapath.PeersNamespace, "evil")),
		deniedRow("no namespace", inside(datapath.PeersNamespace, ""), inside(datapath.PeersNamespace, "")),
		deniedRow("only its own pod", inside(datapath.PeersPod, "shop"), inside(datapath.PeersNode, "shop")),
		deniedRow("not included", datapath.Policy{Include: ports(1, port-1)}, datapath.Policy{}),
		deniedRow("not included by the server", datapath.Policy{}, datapath.Policy{Include: ports(port+1, port+1)}),
		deniedRow("excluded", datapath.Policy{Exclude: ports(port, port)}, datapath.Policy{}),
		deniedRow("excluded by the server", datapath.Policy{},
			datapath.Policy{Include: ports(8000, 8999), Exclude: ports(8080, 8090)}),
		// where the other end's socket belongs is not known
		{result: datapath.ResultRemote, how: how{outside: true}},
		{result: datapath.ResultOption, name: "zerocopy",
			how: how{client: prepare(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1)}, named: "option"},
		{result: datapath.ResultOption, name: "inq", how: how{client: prepare(unix.IPPROTO_TCP, unix.TCP_INQ, 1)},
			named: "option"},
		{result: datapath.ResultOption, name: "stamps", how: how{client: prepare(unix.SOL_SOCKET, unix.SO_TIMESTAMP,
			1)}, named: "option"},
		{
			result: datapath.ResultOption, name: "listener", passive: true, named: "option",
			how: how{server: prepare(unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1)},
		},
		{result: datapath.ResultMPTCP, how: how{protocol: unix.IPPROTO_MPTCP}, named: "mptcp"},
		{result: datapath.ResultHelper, before: func(p *place, port int) {
			if _, err := p.d.SetHelperPorts(ports(uint16(port), uint16(port))); err != nil {
				p.Fatal(err)
			}
		}, predicted: "helper", named: "helper"},
		{result: datapath.ResultShare, maximum: 8, before: openConnections(3), predicted: "share", named: "share"},
		{result: datapath.ResultShort, before: shortConnections, tries: 20},
		{result: datapath.ResultStream, before: fruitlessStreams, tries: 20},
		{result: datapath.ResultBlocking, guard: datapath.GuardBlocking, how: how{blocking: true},
			named: "blocking"},
		{
			result: datapath.ResultAvoided, guard: datapath.GuardObserve, passive: true, before: waitingServer,
			predicted: "avoided", named: "avoided",
		},
	}
}

// undrivenResults are driven elsewhere, as they need more than two pods and a socket.
var undrivenResults = map[datapath.Result]string{
	datapath.ResultForeign:   "a sock_ops program of somebody else: pkg/datapath, TestEndpointUnderAForeignProgramStaysOnTCP",
	datapath.ResultError:     "a sockmap of somebody else: pkg/datapath, neighbours_test.go",
	datapath.ResultRepair:    "a socket without a connection, driven by TestARepairedSocketIsExplained",
	datapath.ResultCollision: "a handshake that is held up: pkg/datapath, TestCollisionStaysOnTCP",
	datapath.ResultMapFull:   "three pods: pkg/datapath, TestFullMapLeavesConnectionsOnTCP",
	datapath.ResultULP:       "no kernel lets a socket have an upper-layer protocol before it is connected",
}

func openConnections(n int) func(p *place, port int) {
	return func(p *place, _ int) {
		for range n {
			p.connect(how{})
		}
	}
}

// shortConnections are as many as enter the sockhash before the destination counts as one of short
// connections, and the samples.
func shortConnections(p *place, port int) {
	p.Helper()
	for range 256 + 64 {
		client, server := p.connect(how{port: port, noEvents: true})
		client.close()
		server.close()
	}
}

// fruitlessStreams leave the sockhash.
func fruitlessStreams(p *place, port int) {
	p.Helper()
	for range 8 {
		client, server := p.connect(how{port: port})
		exchange(client, server, 3)
		exchange(server, client, 3)
		client.set(unix.IPPROTO_TCP, unix.TCP_CORK, 1)
		client.sendUntil(server, objection{reason: datapath.ReasonCorked, until: 200})
		server.send(1)
		client.read(1)
		client.close()
		server.close()
	}
}

// waitingServer is noted by a guard.
func waitingServer(p *place, port int) {
	p.Helper()
	client, server := p.connect(how{port: port})
	receiveWith(unix.MSG_TRUNC)(client, server)
	client.close()
	server.close()
}

// counted is how often a role had a result, of all endpoints.
func (p *place) counted(role datapath.Role, result datapath.Result) (n uint64) {
	p.Helper()
	totals, err := p.d.Totals()
	if err != nil {
		p.Fatal(err)
	}
	for _, sums := range totals {
		n += sums.Flows[role][result]
	}
	return n
}

func TestExplainAgreesWithTheProgramsOnResults(t *testing.T) {
	at := nodes(t)
	for _, m := range connections() {
		t.Run(fmt.Sprint(m.result, " ", m.name), func(t *testing.T) {
			settings := settingsWith(m.guard)
			if m.maximum != 0 {
				settings.MaxSockets = m.maximum
			}
			p := at(settings).place(t)
			p.require(m.guard)
			p.make(m)
		})
	}
}

// make establishes the connection, and compares its result with what explain says before and after.
func (p *place) make(m made) {
	p.Helper()
	h := m.how
	h.port = port
	if m.before != nil {
		m.before(p, port)
	}
	if got := decider(Explain(p.facts(p.web, p.db, port))); got != m.predicted {
		p.Errorf("before the connection explain names %q, want %q", got, m.predicted)
	}
	role := datapath.RoleActive
	if m.passive {
		role = datapath.RolePassive
	}
	was := p.counted(role, m.result)
	client, server := p.establish(h)
	// A connection may be a sample, which is paired. The next one follows at once: later it would be a sample,
	// too.
	for tries := m.tries; tries > 0 && p.counted(role, m.result) == was; tries-- {
		client, server = p.establish(h)
	}
	fixture.Wait(p, "the result is counted", func() bool { return p.counted(role, m.result) > was })
	sender, reader := client, server
	if m.passive {
		sender, reader = server, client
	}
	e := sender.explained(reader)
	if got := decider(e); got != m.named {
		p.Errorf("afterwards explain names %q, want %q: %s", got, m.named, e.Answer)
	}
	if joined := m.result == datapath.ResultJoined; joined != (sender.flow() != nil) || !joined &&
		e.Outcome != ByTCP {
		p.Errorf("in the sockhash: %v, and explain says %s, %q", sender.flow() != nil, e.Outcome, e.Answer)
	}
}

// establish makes a connection, on which one message arrives.
func (p *place) establish(h how) (client, server *end) {
	p.Helper()
	client, server = p.connect(h)
	client.send(100)
	server.read(100)
	return client, server
}

// decider names the condition that decided; empty when none has.
func decider(e *Explanation) string {
	if d := e.Decider(); d != nil {
		return d.Name
	}
	return ""
}

// A socket that TCP_REPAIR connects sends no packet, and has no other end.
func TestARepairedSocketIsExplained(t *testing.T) {
	p := newNode(t, plain).place(t)
	e := &end{place: p, pod: p.web, fd: -1, epoll: -1, port: port}
	t.Cleanup(e.close)
	p.inside(p.web, func() (err error) {
		h := how{client: prepare(unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)}
		e.fd, err = dial(h, &unix.SockaddrInet4{Port: port, Addr: p.db.addr.As4()})
		return err
	})
	if n := p.counted(datapath.RoleActive, datapath.ResultRepair); n != 1 {
		t.Errorf("%d sockets were counted as repaired", n)
	}
	f := p.facts(p.web, p.db, port)
	f.Socket = e.socket()
	if got := decider(Explain(f)); got != "repair" {
		t.Errorf("explain names %q", got)
	}
}

func TestEveryResultIsDriven(t *testing.T) {
	rows := map[datapath.Result]bool{}
	for _, m := range connections() {
		rows[m.result] = true
	}
	for _, row := range datapath.ResultTable {
		if why := undrivenResults[row.Number]; rows[row.Number] == (why != "") {
			t.Errorf("%s: driven %v, and not driven because of %q", row.Name, rows[row.Number], why)
		}
	}
}
