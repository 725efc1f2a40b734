// SPDX-License-Identifier: Apache-2.0

package crinode

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// Volume has the bytes of sockets that have closed meanwhile, by their way.
type Volume struct{ Redirected, TCP uint64 }

// Minus is the difference, of each way.
func (v Volume) Minus(o Volume) Volume { return Volume{v.Redirected - o.Redirected, v.TCP - o.TCP} }

// Percent of the bytes that were redirected.
func (v Volume) Percent() float64 {
	return 100 * float64(v.Redirected) / max(1, float64(v.Redirected+v.TCP))
}

// Flows are the live sockets of the sockhash, none when nothing is loaded.
func (w *World) Flows() (all []datapath.Flow) {
	w.Helper()
	err := w.Datapath().Flows(func(f datapath.Flow) bool {
		all = append(all, f)
		return true
	})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// FlowsTo are the live sockets of connections to an address, as the client knows it.
func (w *World) FlowsTo(address string) []datapath.Flow {
	w.Helper()
	return slices.DeleteFunc(w.Flows(), func(f datapath.Flow) bool { return f.Remote.String() != address })
}

// Closed has the bytes of all closed sockets.
func (w *World) Closed() (v Volume) {
	w.Helper()
	totals, err := w.Datapath().Totals()
	if err != nil {
		w.Fatal(err)
	}
	for _, t := range totals {
		v.Redirected += t.RedirectedBytes
		v.TCP += t.TCPBytes
	}
	return v
}

// Container is a container of a pod.
type Container interface {
	// Exec runs the traffic program in the container, by a new process, as `kubectl exec` starts it, and
	// returns its output.
	Exec(args ...string) (string, error)
}

// Requests of an exchange, and their bytes. The program sends a hello first.
const (
	exchanged = 2000
	requests  = exchanged + 100 // with those of the warm-up
	size      = 512
)

// exchange sends requests from a container to an address. The program compares each byte of each answer, and
// the server each byte of each request. It returns the bytes by their way; no other flow may end meanwhile.
func (w *World) exchange(c Container, address string) Volume {
	w.Helper()
	before := w.Closed()
	out, err := c.Exec("rr", "-connect", address, "-count", strconv.Itoa(exchanged),
		"-warmup", strconv.Itoa(requests-exchanged), "-size", strconv.Itoa(size), "-timeout", "60s")
	if err != nil {
		w.Fatalf("exchange with %s: %v", address, err)
	}
	report, err := ParseReport(out)
	if err != nil || report.Latency == nil || report.Latency.Count != exchanged {
		w.Fatalf("exchange with %s: %v: %s", address, err, out)
	}
	var went Volume
	w.Eventually("the sockets have closed", func() bool {
		live := len(w.FlowsTo(address))
		went = w.Closed().Minus(before)
		return live == 0 && (went == Volume{} || went.Redirected+went.TCP >= 2*requests*size)
	})
	return went
}

// ParseReport reads what the traffic program prints of an exchange in which both ends have compared each
// byte.
func ParseReport(text string) (r traffic.Report, err error) {
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, err
	}
	if !r.Checked {
		return r, errors.New("the bytes were not compared")
	}
	return r, nil
}

// WantRedirected expects an exchange of which nearly every byte was redirected, and keeps the share.
func (w *World) WantRedirected(c Container, address string) {
	w.Helper()
	v := w.exchange(c, address)
	if v.Percent() < 99.9 {
		w.Errorf("to %s: %d bytes redirected, %d over TCP", address, v.Redirected, v.TCP)
	}
	if want := uint64(2*requests*size + traffic.HelloSize); v.Redirected+v.TCP != want {
		w.Errorf("to %s: counted %d bytes, %d were sent", address, v.Redirected+v.TCP, want)
	}
	w.shares = append(w.shares, v.Percent())
	w.Logf("to %s: %.2f %% of %d bytes redirected", address, v.Percent(), v.Redirected+v.TCP)
}

// WantPlain expects an exchange of which no byte was redirected.
func (w *World) WantPlain(c Container, address string) {
	w.Helper()
	if v := w.exchange(c, address); v.Redirected != 0 {
		w.Errorf("to %s: %d bytes were redirected", address, v.Redirected)
	}
}

// Share is the smallest share that WantRedirected has seen, in words.
func (w *World) Share() string {
	w.Helper()
	if len(w.shares) == 0 {
		w.Fatal("nothing was measured")
	}
	return fmt.Sprintf("%.4g %%", slices.Min(w.shares))
}
