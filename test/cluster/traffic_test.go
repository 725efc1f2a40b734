// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// loadStatus is a line of output of a client: Status of test/cluster/load.
type loadStatus struct {
	Connections, Requests, Bytes, Failures int
	Error                                  string
}

// statusOf is the last line of the client of a workload.
func statusOf(name string) (s loadStatus, err error) {
	out, err := kubectl("logs", "--tail=1", "deployment/"+name)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("%s printed %q: %w", name, out, err)
	}
	return s, nil
}

// goesOn waits until the client has made so many further requests, and expects that none has failed so far.
func goesOn(t *testing.T, name string, requests int) loadStatus {
	t.Helper()
	var first, last loadStatus
	eventually(t, fmt.Sprintf("%s has made %d more requests", name, requests), func() (err error) {
		if last, err = statusOf(name); err != nil {
			return err
		}
		if first == (loadStatus{}) {
			first = last
		}
		if last.Failures > 0 {
			return final{fmt.Errorf("%d requests of %s have failed, the first: %s", last.Failures, name, last.Error)}
		}
		if last.Requests < first.Requests+requests {
			return fmt.Errorf("it has made %d", last.Requests-first.Requests)
		}
		return nil
	})
	return last
}

// way has the bytes that a pod has sent, by their way.
type way struct{ redirected, tcp float64 }

func (w way) minus(o way) way { return way{w.redirected - o.redirected, w.tcp - o.tcp} }

func (w way) String() string {
	return fmt.Sprintf("%.0f bytes redirected, %.0f over TCP (%.2f %%)", w.redirected, w.tcp, w.percent())
}

func (w way) percent() float64 { return 100 * w.redirected / max(1, w.redirected+w.tcp) }

// wayOf has all bytes of a pod, by its attachment.
func wayOf(t *testing.T, pod string) way {
	t.Helper()
	e := attachmentOf(t, pod)
	if e == nil {
		return way{}
	}
	return way{float64(e.RedirectedBytes), float64(e.TCPBytes)}
}

// exportedWayOf is the same from the agent's metrics, which may be a second old.
func exportedWayOf(pod string) (way, error) {
	m, err := metrics()
	if err != nil {
		return way{}, err
	}
	label := `pod="` + pod + `"`
	return way{m.sum("sockmap_redirected_bytes_total", label), m.sum("sockmap_tcp_bytes_total", label)}, nil
}

// An exchange has so many connections, one after the other, with so many requests each.
const (
	exchangeConns    = 3
	exchangeRequests = 1000
	exchangeSize     = 512
	exchangeBytes    = exchangeConns * exchangeRequests * exchangeSize
)

// exchange makes new connections from a pod, which must have no other accelerated connections meanwhile. It
// compares every byte that comes back, and returns by which way the pod's bytes were sent.
func exchange(t *testing.T, pod, target string) way {
	t.Helper()
	before := wayOf(t, pod)
	out := k(t, "exec", pod, "--", "/load", "exchange", "-connect", target, "-conns",
		strconv.Itoa(exchangeConns),
		"-requests", strconv.Itoa(exchangeRequests), "-size", strconv.Itoa(exchangeSize))
	var s loadStatus
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Bytes != exchangeBytes || s.Failures > 0 {
		t.Fatalf("exchange of %s with %s: %v: %s", pod, target, err, out)
	}
	return wayOf(t, pod).minus(before)
}

// wantRedirected expects that nearly every byte was redirected: the first bytes of a connection may use TCP.
func wantRedirected(t *testing.T, pod, target string) {
	t.Helper()
	went := exchange(t, pod, target)
	if went.percent() < 99 || went.redirected < 0.99*exchangeBytes {
		t.Errorf("%s to %s: %s of %d, want them redirected", pod, target, went, exchangeBytes)
	}
	t.Logf("%s to %s: %s", pod, target, went)
}

// wantPlain expects that no byte was redirected, in either direction.
func wantPlain(t *testing.T, from, to pod) {
	t.Helper()
	before := wayOf(t, to.Metadata.Name)
	went := exchange(t, from.Metadata.Name, to.at())
	back := wayOf(t, to.Metadata.Name).minus(before)
	if went.redirected+back.redirected != 0 {
		t.Errorf("%s to %s: %s, and back %s, want none redirected", from.Metadata.Name, to.Metadata.Name, went,
			back)
	}
	t.Logf("%s to %s: plain TCP (%s, and back %s)", from.Metadata.Name, to.Metadata.Name, went, back)
}

// wantBlocked expects that no connection can be made.
func wantBlocked(t *testing.T, pod, target string) {
	t.Helper()
	out, err := kubectl("exec", pod, "--", "/load", "exchange", "-connect", target, "-conns", "1", "-requests",
		"10",
		"-timeout", "3s")
	if err == nil || !strings.Contains(err.Error(), "i/o timeout") {
		t.Errorf("%s to %s: %v: %s, want no connection", pod, target, err, out)
	}
}

// flow is a live flow as sockmapctl lists it: one end.
type flow struct{ Pod, PeerPod, Mode, Reason, Role, Remote string }

// liveFlows are those with an end in a pod.
func liveFlows(t *testing.T, pod string) []flow {
	t.Helper()
	var list struct{ Items []flow }
	if err := json.Unmarshal(sockmapctl(t, "flows", "--pod", pod, "-o", "json"), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// redirecting expects that the agent's metrics show redirected bytes of the client's live connections.
func redirecting(t *testing.T, name, podName string) {
	t.Helper()
	before, err := exportedWayOf(podName)
	if err != nil {
		t.Fatal(err)
	}
	start := goesOn(t, name, 0)
	sent := float64(goesOn(t, name, 300).Bytes - start.Bytes)
	eventually(t, "the bytes of "+name+" are redirected", func() error {
		now, err := exportedWayOf(podName)
		if err != nil {
			return err
		}
		if went := now.minus(before); went.redirected < sent/2 || went.percent() < 90 {
			return fmt.Errorf("%s, of %.0f that were sent", went, sent)
		}
		return nil
	})
}
