// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// serviceIP leads to one of the two servers of a routed net.
const serviceIP = "10.96.0.9"

// routed is a client and two servers, each in a network namespace of its own, with a router between them that
// keeps state of connections. The state lives as long as tests can wait for.
type routed struct {
	client, router *netnstest.NetNS
	servers        [2]*netnstest.NetNS
}

func newRouted(t *testing.T) *routed {
	t.Helper()
	r := &routed{client: netnstest.New(t), router: netnstest.New(t)}
	r.servers[0], r.servers[1] = netnstest.New(t), netnstest.New(t)
	for i, ns := range []*netnstest.NetNS{r.client, r.servers[0], r.servers[1]} {
		r.plug(t, ns, i+1)
	}
	r.router.Sysctl(t, "ipv4/ip_forward", "1")
	return r
}

func serverIP(i int) string { return fmt.Sprintf("10.77.%d.2", i+2) }

// plug connects ns to the router: it has 10.77.N.2, and the router, its gateway, 10.77.N.1.
func (r *routed) plug(t *testing.T, ns *netnstest.NetNS, n int) {
	t.Helper()
	fd := -1
	ns.Do(func() {
		var err error
		if fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			t.Error(err)
		}
	})
	defer unix.Close(fd)
	port := fmt.Sprintf("port%d", n)
	gateway := net.IPv4(10, 77, byte(n), 1)
	r.router.Do(func() {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			t.Errorf("add veth: %v", err)
		}
		setAddress(t, port, gateway)
	})
	ns.Do(func() {
		setAddress(t, "eth0", net.IPv4(10, 77, byte(n), 2))
		if err := netlink.RouteAdd(&netlink.Route{Gw: gateway}); err != nil {
			t.Errorf("add route: %v", err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

// setAddress gives a link of this thread's namespace an address of a /24 and sets it up.
func setAddress(t *testing.T, name string, ip net.IP) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Errorf("find link %s: %v", name, err)
		return
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip.To4(), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Errorf("add address %s: %v", ip, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Errorf("set link %s up: %v", name, err)
	}
}

// translate makes serviceIP lead to either server by chance, as kube-proxy does with nftables.
func (r *routed) translate(t *testing.T) {
	t.Helper()
	r.rules(t, func(c *nftables.Conn, table *nftables.Table) {
		chain := c.AddChain(&nftables.Chain{
			Name: "services", Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		toService := []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: net.ParseIP(serviceIP).To4()},
		}
		half := []expr.Any{
			&expr.Numgen{Register: 1, Modulus: 2, Type: unix.NFT_NG_RANDOM},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
		}
		first := append(append(append([]expr.Any{}, toService...), half...), dnat(serverIP(0))...)
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: first})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(toService, dnat(serverIP(1))...)})
	})
}

func dnat(to string) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: net.ParseIP(to).To4()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}
}

// filter lets through what begins with a SYN and what belongs to a connection that conntrack knows, as
// network policies do.
func (r *routed) filter(t *testing.T) {
	t.Helper()
	r.rules(t, func(c *nftables.Conn, table *nftables.Table) {
		drop := nftables.ChainPolicyDrop
		chain := c.AddChain(&nftables.Chain{
			Name: "policies", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
			&expr.Bitwise{
				SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
				Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
			},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
		const syn, ack = 0x02, 0x10
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syn}},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
	})
}

// rules makes a table in the router, where conntrack then forgets a connection that was silent for
// stateSeconds.
func (r *routed) rules(t *testing.T, add func(*nftables.Conn, *nftables.Table)) {
	t.Helper()
	r.router.Do(func() {
		c, err := nftables.New()
		if err != nil {
			t.Error(err)
			return
		}
		add(c, c.AddTable(&nftables.Table{Name: "test", Family: nftables.TableFamilyIPv4}))
		if err := c.Flush(); err != nil {
			t.Errorf("add rules: %v", err)
		}
	})
	r.router.Sysctl(t, "netfilter/nf_conntrack_tcp_timeout_established", fmt.Sprint(stateSeconds))
}

// tcpStates are those of the sockets of a namespace that have this port as their own (column 1) or the other
// end's (column 2).
func tcpStates(t *testing.T, ns *netnstest.NetNS, column int, port uint16) (states []int) {
	t.Helper()
	ns.Do(func() {
		f, err := os.Open("/proc/thread-self/net/tcp")
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var state int
			words := strings.Fields(lines.Text())
			if len(words) < 4 || !strings.HasSuffix(words[column], fmt.Sprintf(":%04X", port)) {
				continue
			}
			if _, err := fmt.Sscanf(words[3], "%x", &state); err != nil {
				t.Error(err)
			}
			states = append(states, state)
		}
	})
	return states
}

// setOption sets a socket option that is a C structure, as ipvsadm does.
func setOption(t *testing.T, fd, option int, parts ...any) {
	var value []byte
	for _, part := range parts {
		var err error
		if value, err = binary.Append(value, binary.NativeEndian, part); err != nil {
			t.Error(err)
			return
		}
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_IP, option, string(value)); err != nil {
		t.Errorf("set option %d: %v", option, err)
	}
}

// Commands and structures of the kernel's ip_vs.h.
const (
	ipvsAddService     = 1152 + 2
	ipvsAddDestination = 1152 + 7
	ipvsSetTimeouts    = 1152 + 10
)

type ipvsService struct {
	Protocol  uint16
	_         [2]byte
	Addr      [4]byte
	Port      [2]byte
	_         [2]byte
	Mark      uint32
	Scheduler [16]byte
	Flags     uint32
	Timeout   uint32
	Netmask   uint32
}

type ipvsDestination struct {
	Addr        [4]byte
	Port        [2]byte
	_           [2]byte
	Flags       uint32 // 0: NAT
	Weight      int32
	UpperThresh uint32
	LowerThresh uint32
}

type ipvsTimeouts struct{ TCP, TCPFin, UDP int32 }

// balance makes serviceIP lead to the servers in turn by IPVS, as kube-proxy does in that mode: the address
// is the router's own.
func (r *routed) balance(t *testing.T, ports ...uint16) {
	t.Helper()
	r.router.Do(func() {
		setAddress(t, "lo", net.ParseIP(serviceIP))
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		setOption(t, fd, ipvsSetTimeouts, ipvsTimeouts{TCP: int32(stateSeconds), TCPFin: int32(stateSeconds)})
		for _, port := range ports {
			service := ipvsService{Protocol: unix.IPPROTO_TCP, Netmask: 0xffffffff}
			copy(service.Addr[:], net.ParseIP(serviceIP).To4())
			copy(service.Scheduler[:], "rr")
			binary.BigEndian.PutUint16(service.Port[:], port)
			setOption(t, fd, ipvsAddService, service)
			for i := range r.servers {
				server := ipvsDestination{Port: service.Port, Weight: 1}
				copy(server.Addr[:], net.ParseIP(serverIP(i)).To4())
				setOption(t, fd, ipvsAddDestination, service, server)
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}
