// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

const ftpPort = 21

// assignFTPHelper does what `iptables -t raw -j CT --helper ftp` or `nft ct helper set` does on the node.
func assignFTPHelper(t *testing.T, n *lab.Node) {
	t.Helper()
	// It is built in, or loaded by the rule, or by this if the rule may not load it.
	if _, err := os.Stat("/sys/module/nf_nat_ftp"); errors.Is(err, fs.ErrNotExist) {
		_ = exec.Command("modprobe", "nf_nat_ftp").Run() // a built-in helper is no module
	}
	err := n.Do(func() error {
		c := &nftables.Conn{}
		table := c.AddTable(&nftables.Table{Name: "helpers", Family: nftables.TableFamilyIPv4})
		c.AddObj(&nftables.NamedObj{
			Table: table, Name: "ftp", Type: nftables.ObjTypeCtHelper,
			Obj: &expr.CtHelper{Name: "ftp", L4Proto: unix.IPPROTO_TCP, L3Proto: unix.NFPROTO_IPV4},
		})
		chain := c.AddChain(&nftables.Chain{
			Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting,
			Priority: nftables.ChainPriorityMangle, // after conntrack, before DNAT
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, ftpPort)},
			&expr.Objref{Type: unix.NFT_OBJECT_CT_HELPER, Name: "ftp"},
		}})
		return c.Flush()
	})
	if err != nil {
		t.Fatalf("assign the FTP helper: %v", err)
	}
}

// beFTPServer replies to PASV with its own address and a port, and to all else with 200.
func beFTPServer(l net.Listener, passive string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				answer := "200 fine"
				if lines.Text() == "PASV" {
					answer = "227 Entering Passive Mode (" + passive + ")"
				}
				if _, err := fmt.Fprintf(c, "%s\r\n", answer); err != nil {
					return
				}
			}
		}()
	}
}

// passiveAnswer is the reply that a client gets after some earlier commands and replies.
func passiveAnswer(t *testing.T, from *lab.Place, service string) (answer string, c net.Conn) {
	t.Helper()
	c, err := from.Dial("tcp", service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(c)
	for _, command := range []string{"NOOP", "NOOP", "NOOP", "NOOP", "PASV"} {
		if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
			t.Fatal(err)
		}
		if answer, err = lines.ReadString('\n'); err != nil {
			t.Fatalf("answer to %s: %v", command, err)
		}
	}
	return strings.TrimSpace(answer), c
}

// numbers writes an address and a port as FTP does.
func numbers(address netip.Addr, port uint16) string {
	return fmt.Sprintf("%s,%d,%d", strings.ReplaceAll(address.String(), ".", ","), port>>8, port&255)
}

// The server is behind a service, so the helper has an address to replace. Without the ports in force it does
// not see the reply: that is their purpose.
func TestFTPHelperSeesTheControlConnection(t *testing.T) {
	w := newWorld(t, nil)
	client, server := w.pod(lab.PodSpec{}), w.pod(lab.PodSpec{})
	vip := netip.AddrPortFrom(netip.MustParseAddr("10.96.0.21"), ftpPort)
	if err := w.node.Service(vip, netip.AddrPortFrom(server.IP4(), ftpPort)); err != nil {
		t.Fatal(err)
	}
	assignFTPHelper(t, w.node)
	const passive = 8080
	go beFTPServer(listen(t, &server.Place, at(server.IP4(), ftpPort)), numbers(server.IP4(), passive))
	w.pod(lab.PodSpec{}) // its ADD finds the helper
	d := w.datapath()
	ports, _, err := d.HelperPorts()
	if err != nil || len(ports) == 0 || ports[0] != (datapath.PortRange{First: ftpPort, Last: ftpPort}) {
		t.Fatalf("ports of helpers are %v, %v", ports, err)
	}

	right, wrong := "("+numbers(vip.Addr(), passive)+")", "("+numbers(server.IP4(), passive)+")"
	answer, c := passiveAnswer(t, &client.Place, vip.String())
	if !strings.HasSuffix(answer, right) {
		t.Errorf("the client hears %q, want the address of the service: %s", answer, right)
	}
	if _, ok := findFlow(t, d, c); ok {
		t.Error("the connection is in the sockhash")
	}

	if _, err := d.SetHelperPorts(nil); err != nil {
		t.Fatal(err)
	}
	if answer, _ := passiveAnswer(t, &client.Place, vip.String()); !strings.HasSuffix(answer, wrong) {
		t.Errorf("without the ports the client hears %q, want the server's own address: is it redirected at all?",
			answer)
	}
}

func findFlow(t *testing.T, d *datapath.Datapath, c net.Conn) (found datapath.Flow, ok bool) {
	t.Helper()
	err := d.Flows(func(f datapath.Flow) bool {
		if f.Local.String() == c.LocalAddr().String() && f.Remote.String() == c.RemoteAddr().String() {
			found, ok = f, true
		}
		return !ok
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, ok
}
