// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestMeasureBetweenProcessesOfPods(t *testing.T) {
	n, conflist := newNode(t)
	client := labtest.NewPod(t, n, lab.PodSpec{Conflist: conflist})
	server := labtest.NewPod(t, n, lab.PodSpec{Conflist: conflist})
	for _, listen := range []string{
		netip.AddrPortFrom(server.IP4(), 0).String(),
		netip.AddrPortFrom(server.IP6(), 0).String(),
		"unix:" + filepath.Join(t.TempDir(), "s"),
	} {
		s, err := server.Serve(t.Context(), listen, 0)
		if err != nil {
			t.Fatal(err)
		}
		rr, err := client.Measure(t.Context(), "rr", s.Addr(), 0, "-count", "100", "-size", "64")
		if err != nil || rr.Latency == nil || rr.Latency.Count != 100 {
			t.Errorf("rr over %s: %+v, %v", s.Addr(), rr, err)
		}
		stream, err := client.Measure(t.Context(), "stream", s.Addr(), 1, "-bytes", "1000000", "-size", "16384")
		if err != nil || stream.Transfer == nil || stream.Transfer.Bytes != 1_000_000 {
			t.Errorf("stream over %s: %+v, %v", s.Addr(), stream, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestServeFailsIfItCannotListen(t *testing.T) {
	n, _ := newNode(t)
	if s, err := n.Serve(t.Context(), "203.0.113.1:1", -1); err == nil {
		t.Errorf("a server listens on %s, which is not here", s.Addr())
	}
}
