// SPDX-License-Identifier: Apache-2.0

// Package e2e runs the real plugins through libcni on its own node, with real traffic between the pods, and
// reads from the data path which way the bytes took.
package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

func TestMain(m *testing.M) {
	if user, ok := os.LookupEnv(proxyVariable); ok {
		os.Exit(beProxy(user))
	}
	labtest.Main(m)
}

var dualStack = []netip.Prefix{netip.MustParsePrefix("10.62.0.0/24"),
	netip.MustParsePrefix("fd5c:1f0e:62a0::/64")}

// world is a node whose conflist has sockmap chained after bridge and host-local.
type world struct {
	*testing.T
	node     *lab.Node
	conflist []byte
}

// newWorld makes a world; keys are set in the sockmap entry. Unless they change it, every hazard is accepted,
// because this kernel's hazards are not the subject of these tests.
func newWorld(t *testing.T, keys map[string]any) *world {
	t.Helper()
	node := labtest.NewNode(t, lab.Options{})
	w := &world{T: t, node: node}
	w.conflist = w.list(keys)
	return w
}

func (w *world) list(keys map[string]any) []byte {
	w.Helper()
	keys = maps.Clone(keys)
	if keys == nil {
		keys = map[string]any{}
	}
	if _, set := keys["acceptHazards"]; !set {
		keys["acceptHazards"] = []string{"all"}
	}
	return labtest.Conflist(w.T, w.node, lab.Network{
		Bridge: "br0", Subnets: dualStack, Set: map[string]map[string]any{"sockmap": keys},
	})
}

func (w *world) pod(spec lab.PodSpec) *lab.Pod {
	w.Helper()
	if spec.Conflist == nil {
		spec.Conflist = w.conflist
	}
	return labtest.NewPod(w.T, w.node, spec)
}

// datapath opens the state that the plugins pinned.
func (w *world) datapath() *datapath.Datapath {
	w.Helper()
	return labtest.Datapath(w, w.node)
}

// listen accepts connections in the pod; the caller gets each by accept.
func listen(t *testing.T, p *lab.Place, address string, opts ...lab.SocketOption) net.Listener {
	t.Helper()
	l, err := p.Listen("tcp", address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// connect makes one connection from a place to an address and returns both ends.
func connect(t *testing.T, from *lab.Place, to string, l net.Listener) (client, server net.Conn) {
	t.Helper()
	client, err := from.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, fixture.Accept(t, l)
}

// duplex sends size bytes each way at once, checks each, and leaves the connection open.
func duplex(t *testing.T, client, server net.Conn, size int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var both errgroup.Group
	random := fixture.Rand(t)
	for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
		seed := random.Uint32()
		both.Go(func() error {
			_, err := traffic.Send(ctx, from, traffic.Stream{Seed: seed, Bytes: uint64(size), Chunk: 20 << 10,
				Vary: true})
			return err
		})
		both.Go(func() error {
			got := make([]byte, size)
			if n, err := io.ReadFull(to, got); err != nil {
				return fmt.Errorf("read %d of %d bytes: %w", n, size, err)
			}
			return traffic.NewPattern(seed).Check(got)
		})
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
}

// ends finds the live flows whose sockets have the local addresses of these connections.
func ends(t *testing.T, d *datapath.Datapath, conns ...net.Conn) (found []datapath.Flow) {
	t.Helper()
	want := map[netip.AddrPort]bool{}
	for _, c := range conns {
		ap := c.LocalAddr().(*net.TCPAddr).AddrPort()
		want[netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())] = true
	}
	err := d.Flows(func(f datapath.Flow) bool {
		if want[f.Local] {
			found = append(found, f)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// wantRedirected expects both ends among the live flows, with nearly all bytes redirected: the first burst to
// a client may use TCP.
func wantRedirected(t *testing.T, d *datapath.Datapath, size uint64, conns ...net.Conn) {
	t.Helper()
	flows := ends(t, d, conns...)
	if len(flows) != len(conns) {
		t.Errorf("%d of %d ends are live flows: %+v", len(flows), len(conns), flows)
	}
	for _, f := range flows {
		if !f.Joined || f.RedirectedBytes+f.TCPBytes != size || f.RedirectedBytes < size*3/4 {
			t.Errorf("want %d bytes, nearly all redirected: %+v", size, f)
		}
	}
}

func wantPlain(t *testing.T, d *datapath.Datapath, conns ...net.Conn) {
	t.Helper()
	if flows := ends(t, d, conns...); len(flows) != 0 {
		t.Errorf("want plain TCP, but these are live flows: %+v", flows)
	}
}

func port(l net.Listener) uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }

func at(ip netip.Addr, port uint16) string { return netip.AddrPortFrom(ip, port).String() }

func liveFlows(t *testing.T, d *datapath.Datapath) (n int) {
	t.Helper()
	if err := d.Flows(func(datapath.Flow) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

// totals adds up the sums of all endpoints.
func totals(t *testing.T, d *datapath.Datapath) datapath.Totals {
	t.Helper()
	all, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	sum := datapath.Totals{Flows: map[datapath.Role]map[datapath.Result]uint64{
		datapath.RoleActive: {}, datapath.RolePassive: {},
	}}
	for _, one := range all {
		sum.RedirectedBytes += one.RedirectedBytes
		sum.TCPBytes += one.TCPBytes
		for role, results := range one.Flows {
			for result, n := range results {
				sum.Flows[role][result] += n
			}
		}
	}
	return sum
}
