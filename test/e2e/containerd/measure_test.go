// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// volume has the bytes of sockets that have closed meanwhile, by their way.
type volume struct{ redirected, tcp uint64 }

func (v volume) minus(o volume) volume { return volume{v.redirected - o.redirected, v.tcp - o.tcp} }

// percent of the bytes that were redirected.
func (v volume) percent() float64 {
	return 100 * float64(v.redirected) / max(1, float64(v.redirected+v.tcp))
}

// flows are the live sockets of the sockhash, none when nothing is loaded.
func (w *world) flows() (all []datapath.Flow) {
	w.Helper()
	err := w.datapath().Flows(func(f datapath.Flow) bool {
		all = append(all, f)
		return true
	})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// closed has the bytes of all closed sockets.
func (w *world) closed() (v volume) {
	w.Helper()
	totals, err := w.datapath().Totals()
	if err != nil {
		w.Fatal(err)
	}
	for _, t := range totals {
		v.redirected += t.RedirectedBytes
		v.tcp += t.TCPBytes
	}
	return v
}

// Requests of an exchange, and their bytes. The program sends a hello first.
const (
	exchanged = 2000
	requests  = exchanged + 100 // with those of the warm-up
	size      = 512
)

// exchange sends requests from a container to an address, by a new process, as `kubectl exec` starts it. The
// program compares each byte of each answer, and the server each byte of each request. It returns the bytes
// by their way; no other flow may end meanwhile.
func (c *container) exchange(w *world, address string) volume {
	w.Helper()
	before := w.closed()
	out, err := c.exec("rr", "-connect", address, "-count", strconv.Itoa(exchanged), "-warmup",
		strconv.Itoa(requests-exchanged),
		"-size", strconv.Itoa(size), "-timeout", "60s")
	if err != nil {
		w.Fatal(err)
	}
	report, err := parseReport(out)
	if err != nil || report.Latency == nil || report.Latency.Count != exchanged {
		w.Fatalf("exchange with %s: %v: %s", address, err, out)
	}
	var went volume
	w.eventually("the sockets have closed", func() bool {
		live := len(w.flowsTo(address))
		went = w.closed().minus(before)
		return live == 0 && (went == volume{} || went.redirected+went.tcp >= 2*requests*size)
	})
	return went
}

// flowsTo are the live sockets of connections to an address, as the client knows it.
func (w *world) flowsTo(address string) []datapath.Flow {
	w.Helper()
	return slices.DeleteFunc(w.flows(), func(f datapath.Flow) bool { return f.Remote.String() != address })
}

func parseReport(text string) (r traffic.Report, err error) {
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, err
	}
	if !r.Checked {
		return r, fmt.Errorf("the bytes were not compared")
	}
	return r, nil
}

// exec runs the traffic program in the container and returns its output.
func (c *container) exec(args ...string) (string, error) {
	out, err := c.pod.d.crictl(append([]string{"exec", "--sync", "--timeout", "70", c.id, "/traffic"},
		args...)...)
	return string(out), err
}

// wantRedirected expects an exchange of which every byte was redirected, and keeps the smallest share.
func (w *world) wantRedirected(c *container, address string) {
	w.Helper()
	v := c.exchange(w, address)
	if v.percent() < 99.9 {
		w.Errorf("to %s: %d bytes redirected, %d over TCP", address, v.redirected, v.tcp)
	}
	if want := uint64(2*requests*size + traffic.HelloSize); v.redirected+v.tcp != want {
		w.Errorf("to %s: counted %d bytes, %d were sent", address, v.redirected+v.tcp, want)
	}
	w.shares = append(w.shares, v.percent())
	w.Logf("to %s: %.1f %% of %d bytes redirected", address, v.percent(), v.redirected+v.tcp)
}

// wantPlain expects an exchange of which no byte was redirected.
func (w *world) wantPlain(c *container, address string) {
	w.Helper()
	if v := c.exchange(w, address); v.redirected != 0 {
		w.Errorf("to %s: %d bytes were redirected", address, v.redirected)
	}
}

// share is the smallest share that wantRedirected has seen, in words.
func (w *world) share() string {
	w.Helper()
	if len(w.shares) == 0 {
		w.Fatal("nothing was measured")
	}
	return fmt.Sprintf("%.4g %%", slices.Min(w.shares))
}
