// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// bundleNode has two pods that talk by IPv4 and IPv6, one that is gone by name only, a log and a
// configuration, and names that are as awkward as Kubernetes allows.
type bundleNode struct {
	*testNode
	flags []string // that lead to its files
	names []string // none of which may be in a bundle
}

func newBundleNode(t *testing.T) *bundleNode {
	t.Helper()
	n, g, ns := newLoadedNode(t), newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "0123456789abcdef", PodNamespace: "shop", PodName: "web-0"}, ns, g)
	other, theirs := newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "fedcba9876543210", PodNamespace: "team-payments", PodName: "web-0"},
		theirs, other)
	connect(t, g, ns, 1)[0].send(t, 3, 1000)
	connect6(t, g, ns).send(t, 1, 10)
	connect(t, other, theirs, 1)[0].send(t, 1, 10)
	n.ok(t, "disable", "--namespace", "vanished")

	dir := t.TempDir()
	log, config, netd := dir+"/plugin.log", dir+"/agent.yaml", dir+"/net.d"
	err := errors.Join(os.Mkdir(netd, 0o700),
		os.WriteFile(log,
			[]byte("level=WARN msg=\"no cgroup for shop/web-0 at 10.9.8.7\" pod=farm-9/lost-1 K8S_POD_NAME=args-9;\n"),
			0o600),
		os.WriteFile(config, []byte("listen: 192.0.2.7:9469\nkubelet: \"[2001:db8::7]:10250\"\n"), 0o600),
		os.WriteFile(netd+"/10-net.conflist",
			[]byte(`{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge","ipam":{"type":"host-local","subnet":"198.51.100.0/24"}},`+
				`{"type":"sockmap","logFile":"`+log+`"}]}`), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return &bundleNode{n, []string{"--cri", "none", "--cni-cache-dir", dir + "/cache", "--cni-conf-dir", netd,
		"--config-file", config},
		[]string{"shop", "web-0", "team-payments", "vanished", "farm-9", "lost-1", "args-9"}}
}

// connect6 is connect over IPv6.
func connect6(t *testing.T, g *group, ns *netnstest.NetNS) pair {
	t.Helper()
	var p pair
	var err error
	g.in(t, func() {
		ns.Do(func() {
			var l *net.TCPListener
			if l, err = net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback}); err != nil {
				return
			}
			defer l.Close()
			if p.client, err = net.DialTCP("tcp6", nil, l.Addr().(*net.TCPAddr)); err == nil {
				p.server, err = l.AcceptTCP()
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// bundle runs the command and returns the files of what it wrote.
func (n *bundleNode) bundle(t *testing.T, flags ...string) map[string]string {
	t.Helper()
	r := n.run(t, slices.Concat([]string{"support-bundle", "-o", "-"}, n.flags, flags)...)
	if r.code != exitOK {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	return filesOf(t, strings.NewReader(r.stdout))
}

func filesOf(t *testing.T, in io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for all := tar.NewReader(zip); ; {
		h, err := all.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(all)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		files[filepath.Base(h.Name)] = string(content)
	}
}

// What an address looks like, by another rule than that of the command.
var (
	ipv4 = regexp.MustCompile(`\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b`)
	ipv6 = regexp.MustCompile(`(?i)(^|[^0-9a-z:])(([0-9a-f]{1,4}:){2,7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:)*:(:[0-9a-f]{1,4})+|([0-9a-f]{1,4}:)+:)($|[^0-9a-z:])`)
	// Times of day.
	clock = regexp.MustCompile(`\d\d:\d\d:\d\d`)
)

func addressesIn(text string) []string {
	text = clock.ReplaceAllString(text, "")
	return append(ipv4.FindAllString(text, -1), ipv6.FindAllString(text, -1)...)
}

func TestASupportBundleHasNeitherAddressesNorNames(t *testing.T) {
	n := newBundleNode(t)
	files := n.bundle(t)
	for _, want := range []string{
		"manifest.json", "errors.txt", "version.json", "status.json", "doctor.json", "attachments.json",
		"flows.json", "avoided.json",
		"policy.json", "metrics.txt", "neighbours.json", "kernel.json", "entries.json", "agent.yaml", "plugin.log",
	} {
		if files[want] == "" && want != "errors.txt" {
			t.Errorf("there is no %s", want)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range files {
		if found := addressesIn(content); len(found) > 0 {
			t.Errorf("%s has the addresses %q", file, found)
		}
		for _, name := range append(n.names, host) {
			if regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(content) {
				t.Errorf("%s has the name %s: %s", file, name, content)
			}
		}
	}
	// Rows can be joined.
	pseudonyms := func(file string) []string {
		found := regexp.MustCompile(`\b(pod|namespace)-\d+\b`).FindAllString(files[file], -1)
		slices.Sort(found)
		return slices.Compact(found)
	}
	want := pseudonyms("attachments.json")
	for _, file := range []string{"flows.json", "metrics.txt"} {
		if got := pseudonyms(file); len(got) != 4 || !slices.Equal(got, want) {
			t.Errorf("%s has %q, attachments.json %q", file, got, want)
		}
	}
	if !strings.Contains(files["flows.json"], "[loopback-ipv6-1]:") {
		t.Errorf("the flow over IPv6 is not there: %s", files["flows.json"])
	}
	if !strings.Contains(files["manifest.json"], "--with-addresses") ||
		!strings.Contains(files["manifest.json"], "--with-names") {
		t.Errorf("the manifest does not say what was left out: %s", files["manifest.json"])
	}
}

func TestASupportBundleHasThemWhenAsked(t *testing.T) {
	n := newBundleNode(t)
	files := n.bundle(t, "--with-addresses", "--with-names")
	all := strings.Builder{}
	for _, content := range files {
		all.WriteString(content)
	}
	for _, want := range append(n.names, "127.0.0.1:", "[::1]:", "192.0.2.7", "2001:db8::7", "10.9.8.7") {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%s is nowhere", want)
		}
	}
	if strings.Contains(files["manifest.json"], "--with-") {
		t.Errorf("the manifest says that something was left out: %s", files["manifest.json"])
	}
	files = n.bundle(t, "--with-names")
	if found := addressesIn(files["flows.json"]); len(found) > 0 ||
		!strings.Contains(files["flows.json"], "shop") {
		t.Errorf("with names only: %q, %s", found, files["flows.json"])
	}
}

func TestFailedPartDoesNotEndTheBundle(t *testing.T) {
	n := newTestNode(t) // nothing is loaded
	dir := t.TempDir()
	file := dir + "/bundle.tar.gz"
	r := n.run(t, "support-bundle", "-o", file, "--cri", "none", "--cni-conf-dir", dir, "--cni-cache-dir", dir,
		"--config-file", dir+"/none.yaml")
	if r.code != exitOK || !strings.Contains(r.stdout, "flows.json") ||
		!strings.Contains(r.stdout, "see errors.txt in it") {
		t.Fatalf("%+v", r)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := filesOf(t, bytes.NewReader(content))
	for _, want := range []string{"flows.json: exit code 3: ", "agent.yaml: ", "kernel.json: "} {
		if !strings.Contains(files["errors.txt"], want) {
			t.Errorf("no %q in %s", want, files["errors.txt"])
		}
	}
	if !strings.Contains(files["status.json"], `"loaded": false`) ||
		!strings.Contains(files["manifest.json"], `"exitCode": 3`) {
		t.Errorf("%s\n%s", files["status.json"], files["manifest.json"])
	}
}

func TestBundleRefusesAFileThatOthersPrepared(t *testing.T) {
	n := newTestNode(t)
	dir := t.TempDir()
	victim, link := dir+"/victim", dir+"/link"
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600),
		os.Symlink(victim, link)); err != nil {
		t.Fatal(err)
	}
	if r := n.run(t, "support-bundle", "-o", link); r.code != exitError ||
		!strings.Contains(r.stderr, "symbolic link") {
		t.Errorf("%+v", r)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	n.width = 80
	if r := n.run(t, "support-bundle", "-o", "-"); r.code != exitError ||
		!strings.Contains(r.stderr, "redirect it") || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	if r := n.run(t, "support-bundle", "--log-bytes", "-1"); r.code != exitUsage {
		t.Errorf("%+v", r)
	}
}
