// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// meshProxy is a proxy process in a place: always in its cgroup, and at first in its network namespace.
type meshProxy struct {
	*testing.T
	cmd *exec.Cmd
	in  io.Closer
	out *json.Encoder
	ack *json.Decoder
}

// startProxy starts a proxy as a user; 0 is root.
func startProxy(t *testing.T, at *lab.Place, user int) *meshProxy {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Not the test's context: that ends before cleanups run.
	cmd := at.Command(context.Background(), self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", proxyVariable, user))
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Start(cmd); err != nil {
		t.Fatal(err)
	}
	p := &meshProxy{t, cmd, in, json.NewEncoder(in), json.NewDecoder(out)}
	t.Cleanup(p.kill)
	return p
}

// kill ends it by SIGKILL. It does nothing if it has ended.
func (p *meshProxy) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.in.Close()
}

// serve makes the proxy serve a pod, and returns when it listens there.
func (p *meshProxy) serve(order proxyOrder) {
	p.Helper()
	var problem string
	if err := p.out.Encode(order); err != nil {
		p.Fatal(err)
	}
	if err := p.ack.Decode(&problem); err != nil {
		p.Fatalf("no reply of the proxy: %v", err)
	}
	if problem != "" {
		p.Fatalf("the proxy reports: %s", problem)
	}
}

// setRules gives a pod rules of its mesh, as text of iptables-restore.
func setRules(t *testing.T, p *lab.Pod, tool, rules string) {
	t.Helper()
	output(t, p, []byte(rules), tool, "-w", "--noflush")
}

// hop is one live connection whose ends are both in the sockhash.
type hop struct{ client, server datapath.Flow }

// hops are by the port of the passive end.
func hops(t *testing.T, d *datapath.Datapath) map[uint16][]hop {
	t.Helper()
	byKey := map[datapath.EndKey]datapath.Flow{}
	if err := d.Flows(func(f datapath.Flow) bool { byKey[f.Key] = f; return true }); err != nil {
		t.Fatal(err)
	}
	found := map[uint16][]hop{}
	for key, f := range byKey {
		client, ok := byKey[key.Mirror()]
		if f.Role == datapath.RolePassive && ok {
			found[f.Local.Port()] = append(found[f.Local.Port()], hop{client, f})
		}
	}
	return found
}

func redirectedBytes(at []hop) (sum uint64) {
	for _, h := range at {
		sum += h.client.RedirectedBytes + h.server.RedirectedBytes
	}
	return sum
}

// chain is a connection between two applications through the proxies of a mesh: three connections.
type chain struct {
	*testing.T
	d              *datapath.Datapath
	client, server net.Conn
}

// join connects from one pod to a port of another.
func join(t *testing.T, d *datapath.Datapath, from, to *lab.Pod, address netip.Addr, port uint16) *chain {
	t.Helper()
	return joinPlaces(t, d, &from.Place, &to.Place, at(address, port), port)
}

func joinPlaces(t *testing.T, d *datapath.Datapath, from, to *lab.Place, address string, port uint16) *chain {
	t.Helper()
	l := listen(t, to, fmt.Sprintf("[::]:%d", port))
	defer l.Close()
	client, server := connect(t, from, address, l)
	c := &chain{t, d, client, server}
	c.exchange() // the first bytes to a client may use TCP
	return c
}

// chainBytes is small enough for the first window of every hop.
const chainBytes = 64 << 10

func (c *chain) exchange() {
	c.Helper()
	duplex(c.T, c.client, c.server, chainBytes)
}

// redirected exchanges bytes, checks each, and returns the ports at which they were redirected. Other
// connections must be idle.
func (c *chain) redirected() string {
	c.Helper()
	before := hops(c.T, c.d)
	c.exchange()
	var ports []string
	for port, now := range hops(c.T, c.d) {
		switch n := redirectedBytes(now) - redirectedBytes(before[port]); {
		case n == 0:
		case n < 2*chainBytes*3/4:
			return fmt.Sprintf("of %d bytes %d at port %d", 2*chainBytes, n, port)
		default:
			ports = append(ports, fmt.Sprint(port))
		}
	}
	slices.Sort(ports)
	return strings.Join(ports, " ")
}

// follows waits until exactly these hops are redirected.
func (c *chain) follows(want string) {
	c.Helper()
	var got string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if got = c.redirected(); got == want {
			return
		}
	}
	c.Fatalf("redirected at ports %q, want %q", got, want)
}

func (c *chain) want(want string) {
	c.Helper()
	if got := c.redirected(); got != want {
		c.Errorf("redirected at ports %q, want %q", got, want)
	}
}

// wantNothingLeft waits until the sockhash is empty and no endpoint has a share of it.
func wantNothingLeft(t *testing.T, d *datapath.Datapath) {
	t.Helper()
	eventually(t, "no socket is left", func() bool { return liveFlows(t, d) == 0 })
	eventually(t, "all shares are 0", func() bool {
		shares, err := d.SocketShares()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range shares {
			if n != 0 {
				return false
			}
		}
		return len(shares) > 0
	})
}
