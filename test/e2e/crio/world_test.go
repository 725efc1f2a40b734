// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

var dualStack = []netip.Prefix{
	netip.MustParsePrefix("10.63.0.0/24"), netip.MustParsePrefix("fd5c:1f0e:63a0::/64"),
}

// world is a node with a CRI-O, whose network has bridge and host-local, and sockmap after chain is called.
type world struct {
	*testing.T
	*daemon
	network string
	opened  *datapath.Datapath // after there is a state to open
	shares  []float64          // percent of the bytes that were redirected, of each exchange
}

// newWorld makes a world without sockmap in the list of its network.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t}
	t.Cleanup(w.wantNothingLeft) // after the node is closed
	node := labtest.NewNode(t, lab.Options{BinDir: tools.plugins})
	w.network = node.ID()
	w.daemon = prepareDaemon(t, node)
	for _, name := range []string{"bridge", "host-local", "loopback", "portmap"} {
		if err := os.Symlink(filepath.Join(tools.plugins, name), filepath.Join(w.dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	w.writePlugin()
	w.writeConflist(lab.Network{Without: []string{"sockmap"}})
	w.begin(t)
	return w
}

// writePlugin puts a program in sockmap's place that records each call.
func (w *world) writePlugin() {
	w.Helper()
	script := "#!/bin/sh\necho \"$CNI_COMMAND $CNI_CONTAINERID\" >>" + w.callsFile() + "\n" +
		"exec " + filepath.Join(tools.plugins, "sockmap") + "\n"
	if err := os.WriteFile(filepath.Join(w.dir, "bin", "sockmap"), []byte(script), 0o755); err != nil {
		w.Fatal(err)
	}
}

func (w *world) callsFile() string { return filepath.Join(w.dir, "calls") }

// calls are the plugin's calls so far: command and, if there is one, container.
func (w *world) calls() []string {
	w.Helper()
	b, err := os.ReadFile(w.callsFile())
	if err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		all = append(all, strings.TrimSpace(line))
	}
	return all
}

func (w *world) called(command, id string) bool { return slices.Contains(w.calls(), command+" "+id) }

// chain adds sockmap to the list. Hazards, and readers that wait inside receive calls as the traffic program
// does, are accepted.
func (w *world) chain() {
	w.Helper()
	w.writeConflist(lab.Network{Set: map[string]map[string]any{"sockmap": {
		"acceptHazards": []string{"all"}, "guards": []string{"splice", "observe", "options"},
	}}})
}

func (w *world) confDir() string { return filepath.Join(w.dir, "net.d") }

func (w *world) writeConflist(network lab.Network) {
	w.Helper()
	network.CNIVersion, network.Name, network.Bridge, network.Subnets = "1.1.0", w.network, "br0", dualStack
	file := filepath.Join(w.confDir(), "10-sockmap.conflist")
	if err := os.WriteFile(file+".new", labtest.Conflist(w.T, w.node, network), 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.Fatal(err)
	}
}

// datapath opens the pinned state.
func (w *world) datapath() *datapath.Datapath {
	w.Helper()
	if w.opened == nil {
		w.opened = labtest.Datapath(w.T, w.node)
	}
	return w.opened
}

// records are the attachments of ADDs and adoptions, by the sandbox.
func (w *world) records() map[string]endpoint.Attachment {
	w.Helper()
	all, err := (&endpoint.Node{Dir: w.node.BPFFS()}).Attachments(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	by := map[string]endpoint.Attachment{}
	for _, r := range all {
		by[r.ContainerID] = r
	}
	return by
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	fixture.WaitFor(w, time.Minute, what, ok)
}

func (w *world) wantNothingLeft() {
	w.Helper()
	if w.network == "" {
		return // there was no node
	}
	if left := lab.RuntimeResidue(w.network); len(left) > 0 {
		w.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// volume has the bytes of sockets that have closed meanwhile, by their way.
type volume struct{ redirected, tcp uint64 }

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

// live reports whether a connection to an address is in the sockhash.
func (w *world) live(address string) (any bool) {
	w.Helper()
	err := w.datapath().Flows(func(f datapath.Flow) bool {
		any = any || f.Remote.String() == address
		return !any
	})
	if err != nil {
		w.Fatal(err)
	}
	return any
}

// Requests of an exchange, and their bytes.
const (
	exchanged = 2000
	requests  = exchanged + 100 // with those of the warm-up
	size      = 512
)

// exchange sends requests from a container to an address, by a new process. It compares each byte of each
// answer, and the server each byte of each request. No other flow may end meanwhile.
func (w *world) exchange(c *container, address string) volume {
	w.Helper()
	before := w.closed()
	out, err := c.exec("rr", "-connect", address, "-count", strconv.Itoa(exchanged),
		"-warmup", strconv.Itoa(requests-exchanged), "-size", strconv.Itoa(size), "-timeout", "60s")
	if err != nil {
		w.Fatalf("exchange with %s: %v", address, err)
	}
	var report traffic.Report
	err = json.Unmarshal([]byte(out), &report)
	if err != nil || !report.Checked || report.Latency == nil || report.Latency.Count != exchanged {
		w.Fatalf("exchange with %s: %v: %s", address, err, out)
	}
	var went volume
	w.eventually("the sockets have closed", func() bool {
		live, now := w.live(address), w.closed()
		went = volume{now.redirected - before.redirected, now.tcp - before.tcp}
		return !live && (went == volume{} || went.redirected+went.tcp >= 2*requests*size)
	})
	return went
}

// wantRedirected expects an exchange of which nearly every byte was redirected, and keeps the share.
func (w *world) wantRedirected(c *container, address string) {
	w.Helper()
	v := w.exchange(c, address)
	percent := 100 * float64(v.redirected) / max(1, float64(v.redirected+v.tcp))
	if percent < 99.9 {
		w.Errorf("to %s: %d bytes redirected, %d over TCP", address, v.redirected, v.tcp)
	}
	if want := uint64(2*requests*size + traffic.HelloSize); v.redirected+v.tcp != want {
		w.Errorf("to %s: counted %d bytes, %d were sent", address, v.redirected+v.tcp, want)
	}
	w.shares = append(w.shares, percent)
	w.Logf("to %s: %.2f %% of %d bytes redirected", address, percent, v.redirected+v.tcp)
}

// wantPlain expects an exchange of which no byte was redirected.
func (w *world) wantPlain(c *container, address string) {
	w.Helper()
	if v := w.exchange(c, address); v.redirected != 0 {
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

func at(ip netip.Addr) string { return netip.AddrPortFrom(ip, servePort).String() }
