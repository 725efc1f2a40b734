// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// howItEnds reads until the connection ends, and returns how.
func howItEnds(t *testing.T, c net.Conn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
	switch {
	case n != 0:
		t.Errorf("%d more bytes", n)
	case err == nil:
		return "end of stream"
	case errors.Is(err, unix.ECONNRESET):
		return "reset"
	}
	return err.Error()
}

// endsOfApplications is what both applications see when ztunnel is killed, of an idle connection, and of one
// on which the client continues to send.
func (m *ambient) endsOfApplications(want string) (ends [4]string) {
	m.Helper()
	rests := m.join()
	rests.want(want)
	sends := join(m.T, m.d, m.client, m.server, m.server.IP4(), applicationPort+1)
	m.proxy.kill()
	ends[0], ends[1] = howItEnds(m.T, rests.client), howItEnds(m.T, rests.server)
	ends[2], ends[3] = howItEnds(m.T, sends.client), howItEnds(m.T, sends.server)
	for end := time.Now().Add(20 * time.Second); ; {
		if _, err := sends.client.Write([]byte("is anybody there?")); err != nil {
			ends[2] += ", then sends fail"
			break
		}
		if time.Now().After(end) {
			m.Fatal("sends to a proxy that was killed go on without an error")
		}
	}
	for _, c := range []net.Conn{rests.client, rests.server, sends.client, sends.server} {
		c.Close()
	}
	return ends
}

// Applications see the same of a killed ztunnel as on plain TCP. Nothing of it is left, and the connections
// of the next one are redirected.
func TestZtunnelIsKilledAndStartedAgain(t *testing.T) {
	var seen [2][4]string
	for i, spec := range []lab.PodSpec{ztunnelSpec, optedOut(ztunnelSpec)} {
		w := newWorld(t, nil)
		m := enroll(t, w, w.pod(spec), w.pod(clientSpec), w.pod(serverSpec), false)
		want := allHops
		if spec.Annotations != nil {
			want = ""
		}
		for range 2 {
			seen[i] = m.endsOfApplications(want)
			wantNothingLeft(t, m.d)
			m.startZtunnel()
		}
		m.join().want(want)
	}
	if seen[0] != seen[1] {
		t.Errorf("applications see %q; by plain TCP %q", seen[0], seen[1])
	}
	t.Logf("applications see %q", seen[0])
}

// ztunnel's pod is replaced while connections live, as an update of its DaemonSet does.
func TestAZtunnelPodIsReplaced(t *testing.T) {
	for _, killedFirst := range []bool{true, false} {
		m := newAmbient(t, nil)
		c := m.join()
		c.want(allHops)
		old := m.proxy
		next := m.pod(lab.PodSpec{Namespace: "istio-system", Name: "ztunnel-next"})
		ztunnel := m.ztunnel
		m.ztunnel = next
		m.startZtunnel()
		old.serve(proxyOrder{Drain: true})
		c.want(allHops) // by the old ztunnel, while it lives
		fresh := m.join()
		fresh.want(allHops)

		if killedFirst { // killed as by the kubelet
			old.kill()
		}
		if err := m.node.DEL(t.Context(), m.conflist, ztunnel); err != nil {
			t.Fatal(err)
		}
		if !killedFirst {
			c.want(allHops) // the policies are those of the applications' pods, which are there
			old.kill()
		}
		for _, end := range []net.Conn{c.client, c.server} {
			if got := howItEnds(t, end); got != "end of stream" {
				t.Errorf("it ends by %s", got)
			}
			end.Close()
		}
		fresh.want(allHops)
		fresh.client.Close()
		fresh.server.Close()
		if killedFirst {
			wantNothingLeft(t, m.d)
			continue
		}
		// DEL has removed the link of ztunnel's cgroup, and so the callbacks at the end of its four sockets.
		// They count until user space counts again (datapath.CountShares), which ignores so small a
		// difference.
		eventually(t, "no socket is left", func() bool { return liveFlows(t, m.d) == 0 })
		shares, err := m.d.SocketShares()
		if err != nil {
			t.Fatal(err)
		}
		for cookie, n := range shares {
			if n > 2 {
				t.Errorf("%d sockets of network namespace %d still count", n, cookie)
			}
		}
	}
}

// In some installations ztunnel has hostNetwork. It is accelerated by its annotation, and its sockets in pods
// have these pods' policies nevertheless.
func TestZtunnelWithHostNetworkIsAcceleratedByAnnotation(t *testing.T) {
	for _, takes := range []bool{true, false} {
		h := newHosts(t, map[string]any{"peers": "namespace"})
		spec := ztunnelSpec
		if takes {
			spec.Annotations = takesPart
		}
		ztunnel := h.host(spec)
		client, near, far := h.pod(clientSpec), h.pod(lab.PodSpec{Namespace: "web", Name: "cache"}),
			h.pod(serverSpec)
		h.adoptOnHost()
		all, inside := allHops, insideOfPods
		if !takes {
			all, inside = "", ""
		}
		m := enroll(t, h.world, ztunnel, client, near, false)
		c := m.join()
		c.want(all)
		part := datapath.Switch{Kind: datapath.SwitchPod, Name: "web/front"}
		if takes {
			m.wantHopsOfApplications()
			m.turn(true, part)
			c.follows(fromZtunnel)
			m.turn(false, part)
			c.follows(all)
		}
		c.client.Close()
		c.server.Close()
		m.proxy.kill()
		wantNothingLeft(t, m.d)
		enroll(t, h.world, ztunnel, h.pod(lab.PodSpec{Namespace: "web", Name: "next"}), far,
			false).join().want(inside)
	}
}
