// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// redirectPort makes connections that leave for one port of the pod's loopback arrive at another, as a
// service does.
func (p pod) redirectPort(t *testing.T, from, to uint16) {
	t.Helper()
	p.Do(func() {
		c := &nftables.Conn{}
		table := c.AddTable(&nftables.Table{Name: "test", Family: nftables.TableFamilyIPv4})
		chain := c.AddChain(&nftables.Chain{
			Name: "output", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput,
			Priority: nftables.ChainPriorityNATDest,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, from)},
			&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, to)},
			&expr.Redir{RegisterProtoMin: 1},
		}})
		if err := c.Flush(); err != nil {
			t.Fatalf("redirect port %d to %d: %v", from, to, err)
		}
	})
}

// connectTo is connect where the server listens on another port than the client connects to.
func (p pod) connectTo(t *testing.T, port, listening uint16) (client, server *net.TCPConn) {
	t.Helper()
	p.group.in(t, func() {
		p.Do(func() {
			l := listen(t, "tcp4", fmt.Sprintf("127.0.0.1:%d", listening))
			client = dial(t, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
			server = accept(t, l)
			l.Close()
		})
	})
	return client, server
}

func setHelpers(t *testing.T, d *Datapath, want bool, ports ...PortRange) {
	t.Helper()
	changed, err := d.SetHelperPorts(ports)
	if err != nil || changed != want {
		t.Fatalf("ports of helpers are now %v: changed %v, %v; want %v", ports, changed, err, want)
	}
}

func TestPortsOfConntrackHelpersStayOnTCP(t *testing.T) {
	d := load(t, defaults)
	p := newPods(t, d, Policy{Accelerate: true})[0]
	p.redirectPort(t, 2100, 21)  // the server's port is a helper's
	p.redirectPort(t, 6667, 600) // the one that the client has connected to is
	for _, tt := range []struct {
		port, listening uint16
		want            Result
	}{{21, 21, ResultHelper}, {5061, 5061, ResultHelper}, {2100, 21, ResultHelper}, {6667, 600, ResultHelper},
		{22, 22, ResultJoined}} {
		client, server := p.connectTo(t, tt.port, tt.listening)
		send(t, client, server, 100, 1)
		if _, ok := flowOf(t, d, client); !ok {
			t.Errorf("port %d is not accelerated before there are helpers", tt.port)
		}
		setHelpers(t, d, true, PortRange{First: 21, Last: 21}, PortRange{First: 5060, Last: 5061},
			PortRange{First: 6667, Last: 6667})
		before := flowsCounted(t, d, RoleActive, tt.want)
		client, server = p.connectTo(t, tt.port, tt.listening)
		send(t, client, server, 100, 2)
		send(t, server, client, 100, 3)
		if got := flowsCounted(t, d, RoleActive, tt.want) - before; got != 1 {
			t.Errorf("port %d, at %d: %d active ends counted as %v, want 1", tt.port, tt.listening, got, tt.want)
		}
		if _, ok := flowOf(t, d, client); ok != (tt.want == ResultJoined) {
			t.Errorf("port %d, at %d: in the sockhash: %v", tt.port, tt.listening, ok)
		}
		setHelpers(t, d, true)
	}
	if n := flowsCounted(t, d, RolePassive, ResultHelper); n != 1 {
		t.Errorf("%d passive ends counted as helper, want the one whose client had connected to another port", n)
	}
}

func TestHelpersCanBeIgnored(t *testing.T) {
	d := load(t, defaults)
	if err := d.update(func(c *bpf.SockmapConfig) {
		c.HelpersMode = uint8(bpf.SockmapHelpersModeHELPERS_IGNORE)
	}); err != nil {
		t.Fatal(err)
	}
	setHelpers(t, d, true, PortRange{First: 8080, Last: 8080})
	if p := newPods(t, d, Policy{Accelerate: true})[0]; !redirects(t, d, p, 8080) {
		t.Error("a port of a helper is not accelerated although helpers are ignored")
	}
	if ports, ignored, err := d.HelperPorts(); err != nil || !ignored || len(ports) != 1 ||
		ports[0] != (PortRange{First: 8080, Last: 8080}) {
		t.Errorf("%v, ignored %v, %v", ports, ignored, err)
	}
}

// Both ends change to TCP, because a helper rewrites the replies of a server.
func TestLiveFlowsOfANewHelperGoToTCP(t *testing.T) {
	d := load(t, defaults)
	p := newPods(t, d, Policy{Accelerate: true})[0]
	p.redirectPort(t, 21, 2100)
	for _, listening := range []uint16{21, 2100} {
		port := PortRange{First: 21, Last: 21}
		client, server := p.connectTo(t, 21, 2100)
		if listening == 21 {
			client, server = p.connectTo(t, 2121, 2121)
			port = PortRange{First: 2121, Last: 2121}
		}
		send(t, client, server, 100, 1)
		send(t, server, client, 100, 2)
		setHelpers(t, d, true, PortRange{First: 20, Last: 20}, port)
		setHelpers(t, d, false, PortRange{First: 20, Last: 20}, port)
		send(t, client, server, 100, 3)
		send(t, server, client, 100, 4)
		for _, end := range []*net.TCPConn{client, server} {
			if f, _ := flowOf(t, d, end); f.Mode != ModeTCP || f.Reason != ReasonPolicy || f.RedirectedBytes != 100 {
				t.Errorf("server at %d: %+v, want 100 bytes redirected and then TCP because of policy", listening, f)
			}
		}
		setHelpers(t, d, true)
		send(t, client, server, 100, 5)
		if f, _ := flowOf(t, d, client); f.Mode != ModeRedirect {
			t.Errorf("server at %d, without the helper: %+v, want redirect again", listening, f)
		}
	}
}

func TestTooManyPortsOfHelpersAreRefused(t *testing.T) {
	d := load(t, defaults)
	if _, err := d.SetHelperPorts(make([]PortRange, MaxPortRanges+1)); err == nil {
		t.Error("accepted")
	}
}
