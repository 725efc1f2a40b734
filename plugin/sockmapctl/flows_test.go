// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// findFlow picks the socket whose local address is that of the client or server end.
func findFlow(t testing.TB, flows []live.Flow, local string) live.Flow {
	t.Helper()
	for _, f := range flows {
		if f.Local.String() == local {
			return f
		}
	}
	t.Fatalf("no flow from %s among %d", local, len(flows))
	return live.Flow{}
}

func TestFlowsListTheBytesAndModeOfEachEnd(t *testing.T) {
	n, g, ns := newLoadedNode(t), newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "0123456789abcdef", PodNamespace: "shop", PodName: "web-0"}, ns, g)
	p := connect(t, g, ns, 1)[0]
	p.send(t, 3, 1000)
	n.ok(t, "disable")
	p.send(t, 2, 10)

	var flows []live.Flow
	n.read(t, &flows, "flows")
	if len(flows) != 2 {
		t.Fatalf("%d sockets are listed, want both ends of one connection", len(flows))
	}
	f := findFlow(t, flows, p.client.LocalAddr().String())
	want := live.Flow{
		Local: f.Local, Remote: f.Remote, Namespace: "shop", Pod: "web-0", Container: "0123456789abcdef",
		PeerNamespace: "shop", PeerPod: "web-0", PeerContainer: "0123456789abcdef",
		NetNSCookie: f.NetNSCookie, PeerNetNSCookie: f.NetNSCookie, Role: "active", Joined: true,
		Mode: "left", Reason: "disabled", RedirectedBytes: 3000, RedirectedMessages: 3,
		TCPBytes: 20, TCPState: 1, AgeSeconds: f.AgeSeconds, SocketCookie: f.SocketCookie,
	}
	if f != want {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
	if f.Remote.String() != p.server.LocalAddr().String() || f.AgeSeconds <= 0 || f.AgeSeconds > 30 {
		t.Errorf("remote %s, age %v s", f.Remote, f.AgeSeconds)
	}
	passive := findFlow(t, flows, p.server.LocalAddr().String())
	if passive.Role != "passive" || passive.Mode != "left" || passive.Reason != "disabled" {
		t.Errorf("the silent end: %+v", passive)
	}

	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(f.Local.String()) + ` +` +
		regexp.QuoteMeta(f.Remote.String()) +
		` +shop/web-0 +shop/web-0 +active +left +disabled +2\.9KiB +3 +20B +0 +\d+s$`)
	if out := n.ok(t, "flows"); !line.MatchString(out) {
		t.Errorf("no line matches %s in\n%s", line, out)
	}
}

func TestFlowsOfUnknownNamespacesShowTheirCookie(t *testing.T) {
	n, g := newLoadedNode(t), newGroup(t)
	n.ok(t, "attach", "--cgroup", g.path)
	connect(t, g, &netnstest.NetNS{}, 1)
	lines := strings.Split(strings.TrimSpace(n.ok(t, "flows", "--no-headers")), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %d lines, want one for each end: %q", len(lines), lines)
	}
	for _, line := range lines {
		if !regexp.MustCompile(` netns:\d+ .* pending `).MatchString(line) {
			t.Errorf("no cookie in %q", line)
		}
	}
}

func TestFlowsAreSortedByContainerAndAddress(t *testing.T) {
	n := newLoadedNode(t)
	for _, name := range []string{"zeta", "alpha"} {
		g, ns := newGroup(t), netnstest.New(t)
		n.add(t, endpoint.Sandbox{ContainerID: name, PodNamespace: "ns", PodName: name}, ns, g)
		connect(t, g, ns, 20)
	}
	first := n.ok(t, "flows")
	var pods []string
	var flows []live.Flow
	n.read(t, &flows, "flows")
	for i, f := range flows {
		pods = append(pods, f.Pod)
		if i > 0 && flows[i-1].Pod == f.Pod && flows[i-1].Local.Compare(f.Local) > 0 {
			t.Errorf("%s comes before %s", flows[i-1].Local, f.Local)
		}
	}
	if got := strings.Join(pods, " "); got != strings.TrimSpace(strings.Repeat("alpha ",
		40)+strings.Repeat("zeta ", 40)) {
		t.Errorf("order of pods: %s", got)
	}
	age := regexp.MustCompile(`\d+s\n`)
	if again := n.ok(t, "flows"); age.ReplaceAllString(again, "") != age.ReplaceAllString(first, "") {
		t.Error("two listings of the same flows differ")
	}
}

// manyFlows makes an endpoint with so many flows that one process may not have all their sockets: another
// one, in the same place, has the active ends.
func manyFlows(t testing.TB, flows int) *testNode {
	t.Helper()
	n, g, ns := newLoadedNode(t), newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "many", PodNamespace: "ns", PodName: "many"}, ns, g)
	cmd := exec.Command(os.Args[0])
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var l *net.TCPListener
	g.in(t, func() {
		ns.Do(func() {
			if l, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err == nil {
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", asClient, l.Addr(), flows))
				err = cmd.Start()
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("client: %v", err)
		}
	})
	defer l.Close()
	l.SetDeadline(time.Now().Add(30 * time.Second))
	for range flows {
		c, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return n
}

// beClient connects as often as the environment says, and stays until standard input ends.
func beClient(how string) error {
	var (
		addr  string
		flows int
	)
	if _, err := fmt.Sscan(how, &addr, &flows); err != nil {
		return err
	}
	for range flows {
		c, err := net.Dial("tcp4", addr)
		if err != nil {
			return err
		}
		defer c.Close()
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

const (
	manyCount   = 10_000
	listingTime = time.Second // of CPU; half as long on a clock, where nothing else runs
)

func TestTenThousandFlowsAreListedInASecond(t *testing.T) {
	n := manyFlows(t, manyCount)
	for _, format := range []string{formatTable, formatJSON} {
		best := time.Hour
		// Other tests share the machine: what counts is time of the CPU, and one of several runs has to make
		// it.
		for range 10 {
			begin := processTime(t)
			out := n.ok(t, "flows", "-o", format)
			best = min(best, processTime(t)-begin)
			if lines := strings.Count(out, "127.0.0.1:"); lines != 4*manyCount {
				t.Fatalf("-o %s has %d addresses, want those of %d flows", format, lines, manyCount)
			}
			if best <= listingTime {
				break
			}
		}
		t.Logf("-o %s: both ends of %d connections in %v of CPU", format, manyCount, best)
		if best > listingTime {
			t.Errorf("-o %s takes %v for %d flows, want at most %v", format, best, manyCount, listingTime)
		}
	}
}

// processTime is how long this process has had a CPU.
func processTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func BenchmarkFlows(b *testing.B) {
	n := manyFlows(b, manyCount)
	for _, format := range []string{formatTable, formatJSON} {
		b.Run(format, func(b *testing.B) {
			for b.Loop() {
				if code := n.runTo(io.Discard, io.Discard, "flows", "-o", format); code != exitOK {
					b.Fatalf("exit code %d", code)
				}
			}
		})
	}
}
