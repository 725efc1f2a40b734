// SPDX-License-Identifier: Apache-2.0

// Package security tests what a hostile pod could do to others, and checks the claims of docs/SECURITY.md:
// real pods, made by the real plugins, on a node of the lab.
package security

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// world is a node with two pods in different namespaces.
type world struct {
	*testing.T
	node            *lab.Node
	attacker, other *lab.Pod
	d               *datapath.Datapath
}

// newWorld makes a world; keys are set in the sockmap entry. No guard runs, because the hazards that they
// cure are not tested here.
func newWorld(t *testing.T, keys map[string]any) *world {
	t.Helper()
	all := map[string]any{"acceptHazards": []string{"all"}, "guards": []string{}}
	maps.Copy(all, keys)
	node := labtest.NewNode(t, lab.Options{})
	list := labtest.Conflist(t, node, lab.Network{
		Bridge: "br0", Subnets: []netip.Prefix{netip.MustParsePrefix("10.63.0.0/24")},
		Set: map[string]map[string]any{"sockmap": all},
	})
	w := &world{T: t, node: node}
	w.attacker = labtest.NewPod(t, node, lab.PodSpec{Name: "attacker", Namespace: "evil", Conflist: list})
	w.other = labtest.NewPod(t, node, lab.PodSpec{Name: "other", Namespace: "good", Conflist: list})
	var err error
	if w.d, err = datapath.Open(node.BPFFS()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.d.Close() })
	return w
}

// listen listens on a port of the pod's address.
func listen(t *testing.T, p *lab.Pod, port uint16) net.Listener {
	t.Helper()
	l, err := p.Listen("tcp4", at(p, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func at(p *lab.Pod, port uint16) string { return netip.AddrPortFrom(p.IP4(), port).String() }

func connect(t *testing.T, from *lab.Pod, l net.Listener) (client, server *net.TCPConn) {
	t.Helper()
	c, err := from.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn), fixture.Accept(t, l)
}

// pass sends what at one end and expects it at the other.
func pass(t *testing.T, from, to net.Conn, what string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	if err := from.SetWriteDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(from, what); err != nil {
		t.Fatal(err)
	}
	if got, err := take(to, len(what), 5*time.Second); err != nil || got != what {
		t.Fatalf("received %q, %v; want %q", got, err, what)
	}
}

// take reads up to n bytes within a time.
func take(c net.Conn, n int, within time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	buf := make([]byte, n)
	n, err := io.ReadFull(c, buf)
	return string(buf[:n]), err
}

// flowOf finds the live flow of the socket of c.
func (w *world) flowOf(c net.Conn) (found datapath.Flow, ok bool) {
	w.Helper()
	local, remote := c.LocalAddr().String(), c.RemoteAddr().String()
	err := w.d.Flows(func(f datapath.Flow) bool {
		if f.Local.String() == local && f.Remote.String() == remote {
			found, ok = f, true
		}
		return !ok
	})
	if err != nil {
		w.Fatal(err)
	}
	return found, ok
}

// counted adds up the results of connections in one network namespace.
func (w *world) counted(p *lab.Pod, role datapath.Role, result datapath.Result) uint64 {
	w.Helper()
	all, err := w.d.Totals()
	if err != nil {
		w.Fatal(err)
	}
	return all[p.NetNSCookie()].Flows[role][result]
}

func control(t *testing.T, c *net.TCPConn, f func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	failure := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	if failure != nil || err != nil {
		t.Fatal(failure, err)
	}
}

// received is the kernel's count of bytes received at an interface of the pod.
func received(t *testing.T, p *lab.Pod, device string) (n uint64) {
	t.Helper()
	out, err := p.Output(t.Context(), "cat", "/proc/self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(out) {
		name, counts, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		if string(name) == device {
			if _, err := fmt.Sscan(string(counts), &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no interface %s in %s", device, out)
	return 0
}

// eventually is fixture.Wait.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	fixture.Wait(t, what, ok)
}

// connectTo begins a connection without waiting for the reply.
func connectTo(fd int, to netip.AddrPort) error {
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err == unix.EINPROGRESS {
		return nil
	}
	return err
}
