// SPDX-License-Identifier: Apache-2.0

// Package runtimes adds containers to a network as each container runtime does, with its library or the
// runtime itself, lets them exchange data, and reads from the data path which way the bytes took. The results
// are in docs/RUNTIMES.md.
//
// It is a module of its own, so that the main one does not need the modules of these runtimes.
package runtimes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/row"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/recorded"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestMain(m *testing.M) {
	if err := reap(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	labtest.Main(m)
}

// world is a node with one runtime, whose directory of plugins has the recorder in place of sockmap.
type world struct {
	*testing.T
	node *lab.Node
	bin  string // plugins, real/sockmap, calls
	conf string // conflists
	temp string
	row  row.Row
	did  []string // the row's result in addition to redirection
}

// newWorld makes a world, with a conflist of this CNI version. The row file is written when the test has
// passed.
func newWorld(t *testing.T, file, runtime, cniVersion string) *world {
	t.Helper()
	temp := t.TempDir() // before the node, so that it is removed after it
	w := &world{T: t, temp: temp, bin: filepath.Join(temp, "bin"), conf: filepath.Join(temp, "net.d"),
		row: row.Row{Runtime: runtime}}
	w.fillBin()
	if err := os.Mkdir(w.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	rows := filepath.Join(cacheDir(t), "runtimes")
	if err := row.Remove(rows, file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.writeRow(rows, file) })
	t.Cleanup(func() {
		if w.node == nil {
			return
		}
		if err := removeControllers(w.node.ID()); err != nil {
			t.Error(err)
		}
	})
	w.node = labtest.NewNode(t, lab.Options{BinDir: w.bin})
	w.writeConflist(w.conflist(cniVersion))
	return w
}

// fillBin puts the reference plugins and the recorder where the runtime finds its plugins.
func (w *world) fillBin() {
	w.Helper()
	plugins, err := filepath.Abs(labtest.Plugins(w.T))
	if err != nil {
		w.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(w.bin, "real"), 0o755); err != nil {
		w.Fatal(err)
	}
	found, err := os.ReadDir(plugins)
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range found {
		link := filepath.Join(w.bin, f.Name())
		if f.Name() == "sockmap" {
			link = filepath.Join(w.bin, "real", f.Name())
		}
		if err := os.Symlink(filepath.Join(plugins, f.Name()), link); err != nil {
			w.Fatal(err)
		}
	}
	if err := os.Symlink(program(w.T, "recorder"), filepath.Join(w.bin, "sockmap")); err != nil {
		w.Fatal(err)
	}
}

// bounded is a context for one command.
func (w *world) bounded() context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	w.Cleanup(cancel)
	return ctx
}

// network is the name of the node's network, which no other node has.
func (w *world) network() string { return w.node.ID() }

// conflist is the repository's, with the keys that this kernel needs.
func (w *world) conflist(cniVersion string, without ...string) []byte {
	w.Helper()
	return labtest.Conflist(w.T, w.node, lab.Network{
		Name: w.network(), CNIVersion: cniVersion, Bridge: "br0", Without: without,
		Set: map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	})
}

func (w *world) writeConflist(conflist []byte) {
	w.Helper()
	// The conflist is written to a hidden file that is renamed, because no runtime may read half of one.
	next := filepath.Join(w.conf, ".next")
	if err := os.WriteFile(next, conflist, 0o644); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(w.conf, "10-sockmap.conflist")); err != nil {
		w.Fatal(err)
	}
}

func (w *world) writeRow(dir, file string) {
	if w.Failed() || w.Skipped() {
		return
	}
	w.row.Calls = recorded.Commands(w.calls())
	w.row.Result = strings.Join(append([]string{"redirected"}, w.did...), "; ")
	if err := row.Write(dir, file, w.row); err != nil {
		w.Error(err)
	}
}

func (w *world) setup() ask.Setup {
	return ask.Setup{
		ConfDir: w.conf, BinDir: w.bin, CacheDir: filepath.Join(w.node.Dir(), "cni"), Network: w.network(),
	}
}

// calls are sockmap's calls so far.
func (w *world) calls() []recorded.Call {
	w.Helper()
	calls, err := recorded.Calls(w.bin)
	if err != nil {
		w.Fatal(err)
	}
	return calls
}

// last returns the last call with this command.
func (w *world) last(command string) recorded.Call {
	w.Helper()
	calls := w.calls()
	for _, c := range slices.Backward(calls) {
		if c.Command == command {
			return c
		}
	}
	w.Fatalf("sockmap was not called for %s, only for %v", command, recorded.Commands(calls))
	return recorded.Call{}
}

// wantCgroupPath expects this cgroupPath in the last ADD, nil for none.
func (w *world) wantCgroupPath(want *string) {
	w.Helper()
	got := w.last("ADD").Conf.RuntimeConfig.CgroupPath
	if (got == nil) != (want == nil) || got != nil && *got != *want {
		w.Errorf("ADD got cgroupPath %s, want %s", shown(got), shown(want))
	}
}

func shown(s *string) string {
	if s == nil {
		return "nothing"
	}
	return fmt.Sprintf("%q", *s)
}

// wantArg expects that CNI_ARGS of the last ADD had the key, or had not.
func (w *world) wantArg(key string, want bool) {
	w.Helper()
	args := w.last("ADD").Args
	if got := strings.Contains(";"+args, ";"+key+"="); got != want {
		w.Errorf("ADD got CNI_ARGS %q: %s is in it: %v, want %v", args, key, got, want)
	}
}

// datapath opens the state that the plugins pinned.
func (w *world) datapath() *datapath.Datapath {
	w.Helper()
	return labtest.Datapath(w, w.node)
}

// record is the attachment of a container; ok is false if there is none.
func (w *world) record(containerID string) (r datapath.Attachment, ok bool) {
	w.Helper()
	all, err := w.datapath().Attachments()
	if err != nil {
		w.Fatal(err)
	}
	for _, one := range all {
		if one.ContainerID == containerID && one.OfNetwork(w.network()) {
			return one, true
		}
	}
	return r, false
}

// wantCgroup expects an attachment of the container with the cgroup at dir, from this source.
func (w *world) wantCgroup(containerID, dir, source string) datapath.Attachment {
	w.Helper()
	r, ok := w.record(containerID)
	if !ok {
		w.Fatalf("no record of container %s", containerID)
	}
	if r.Declined != "" {
		w.Fatalf("container %s was declined: %s", containerID, r.Declined)
	}
	if want := cgroupID(w.T, dir); r.CgroupID != want || r.CgroupSource != source {
		w.Errorf("container %s: cgroup %d from %s, want %d (%s) from %s", containerID, r.CgroupID, r.CgroupSource,
			want, dir, source)
	}
	return r
}

func (w *world) wantNoRecord(containerID string) {
	w.Helper()
	if r, ok := w.record(containerID); ok {
		w.Errorf("a record of container %s is left: %+v", containerID, r)
	}
}

// wantLinks expects this number of cgroups with programs.
func (w *world) wantLinks(n int) {
	w.Helper()
	keys, err := w.datapath().LinkKeys()
	if err != nil {
		w.Fatal(err)
	}
	if len(keys) != n {
		w.Errorf("%d cgroups have programs, want %d: %+v", len(keys), n, keys)
	}
}

// sums has the bytes that the endpoint with this netns cookie has sent over closed connections.
func (w *world) sums(cookie uint64) datapath.Totals {
	w.Helper()
	all, err := w.datapath().Totals()
	if err != nil {
		w.Fatal(err)
	}
	return all[cookie]
}

// wantRedirected expects that each of the two endpoints has sent size bytes by now and that nearly all of
// them were redirected: the first message, before the ends know each other, may have used TCP.
func (w *world) wantRedirected(size uint64, cookies ...uint64) {
	w.Helper()
	for _, cookie := range cookies {
		var s datapath.Totals
		fixture.Within(fixture.Patience, func() bool {
			s = w.sums(cookie)
			return s.RedirectedBytes+s.TCPBytes >= size
		})
		if s.RedirectedBytes+s.TCPBytes != size || s.RedirectedBytes < size/2 {
			w.Errorf("endpoint %d: %d bytes redirected and %d over TCP, want %d in all and nearly all redirected",
				cookie, s.RedirectedBytes, s.TCPBytes, size)
		}
	}
}

// retired sums up the bytes of endpoints that are gone, and of sockets without an endpoint.
func (w *world) retired() datapath.Totals { w.Helper(); return w.sums(0) }

// until waits for a condition that must become true soon.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	fixture.Wait(w, what, ok)
}

// note adds an observation to the row, once.
func (w *world) note(what string) {
	if !slices.Contains(w.did, what) {
		w.did = append(w.did, what)
	}
}

// wantPlain expects that no byte of the endpoints was redirected.
func (w *world) wantPlain(cookies ...uint64) {
	w.Helper()
	for _, cookie := range cookies {
		if s := w.sums(cookie); s.RedirectedBytes != 0 {
			w.Errorf("endpoint %d: %d bytes redirected, want none", cookie, s.RedirectedBytes)
		}
	}
}

// talk lets two pods exchange data and returns the number of bytes in each direction.
func (w *world) talk(client, server *lab.Pod, to netip.Addr) uint64 {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	address := netip.AddrPortFrom(to, 8080).String()
	serve := server.Command(ctx, program(w.T, "talk"), "serve", address)
	serve.Stderr = logger{w.T}
	if err := server.Start(serve); err != nil {
		w.Fatal(err)
	}
	out, err := client.Output(ctx, program(w.T, "talk"), "ask", address)
	if err != nil {
		w.Fatal(err)
	}
	if err := serve.Process.Kill(); err != nil {
		w.Fatal(err)
	}
	_ = serve.Wait() // it was killed
	return w.counted(out)
}

// counted reads the last line of the client's output.
func (w *world) counted(out []byte) (n uint64) {
	w.Helper()
	if _, err := fmt.Sscanf(string(out), "ok %d", &n); err != nil || n == 0 {
		w.Fatalf("the client printed %q: %v", out, err)
	}
	return n
}

// logger gets the error output of processes, until the test ends.
type logger struct{ t *testing.T }

func (l logger) Write(b []byte) (int, error) {
	if b := bytes.TrimSpace(b); len(b) > 0 {
		l.t.Logf("%s", b)
	}
	return len(b), nil
}

// daemon is a running runtime.
type daemon struct {
	w   *world
	in  io.WriteCloser
	out *json.Decoder
}

func (d *daemon) try(r ask.Request) (ask.Reply, error) {
	d.w.Helper()
	if err := json.NewEncoder(d.in).Encode(r); err != nil {
		d.w.Fatal(err)
	}
	var reply ask.Reply
	if err := d.out.Decode(&reply); err != nil {
		d.w.Fatal(err)
	}
	if reply.Error != "" {
		return reply, fmt.Errorf("%s: %s", r.Verb, reply.Error)
	}
	return reply, nil
}

// do is try for requests that must not fail; it returns the first address.
func (d *daemon) do(verb string, r ask.Request) (ip netip.Addr) {
	d.w.Helper()
	r.Verb = verb
	reply, err := d.try(r)
	if err != nil {
		d.w.Fatal(err)
	}
	if len(reply.IPs) > 0 {
		if ip, err = netip.ParseAddr(reply.IPs[0]); err != nil {
			d.w.Fatal(err)
		}
	}
	return ip
}
