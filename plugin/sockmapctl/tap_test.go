// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
	"golang.org/x/sync/errgroup"
)

// followed is one stream as tshark reassembles it, the client's half and the server's.
func followed(t *testing.T, file string, stream int) (client, server []byte) {
	t.Helper()
	out := tshark(t, file, "-q", "-z", fmt.Sprintf("follow,tcp,raw,%d", stream))
	_, body, _ := strings.Cut(out, "Node 1:")
	_, body, _ = strings.Cut(body, "\n")
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "=") {
			break
		}
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("tshark says %.100q: %v", line, err)
		}
		if strings.HasPrefix(line, "\t") {
			server = append(server, b...)
		} else {
			client = append(client, b...)
		}
	}
	return client, server
}

// oneWay is traffic.OneWay that leaves the connection open, so that it stays among the live flows.
func oneWay(t *testing.T, from, to *net.TCPConn, s traffic.Stream, seed uint32) error {
	s.Seed = seed
	var all errgroup.Group
	all.Go(func() error { _, err := traffic.Send(t.Context(), from, s); return err })
	all.Go(func() error {
		got := make([]byte, s.Bytes)
		if _, err := io.ReadFull(to, got); err != nil {
			return err
		}
		return traffic.NewPattern(seed).Check(got)
	})
	return all.Wait()
}

func TestTapFlowsMetricsAndTrafficAgreeToTheByte(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	file := captureFile(t)
	pairs := connect(t, g, ns, 3)
	tapped := n.startTap(t, "--with-tcp", "-w", file, "--ring", fmt.Sprint(256<<20))
	// Calls of 1 byte to 128 KiB, and fewer than what a sender has to wait for: after a wait the kernel sends
	// one message without asking, and the tap misses it.
	stream := traffic.Stream{Seed: 5, Bytes: 1 << 20, Chunk: 128 << 10, Vary: true}
	var sent uint64
	var all errgroup.Group
	for _, p := range pairs {
		all.Go(func() error { return oneWay(t, p.client, p.server, stream, stream.Seed) })
		all.Go(func() error { return oneWay(t, p.server, p.client, stream, stream.Seed+1) })
		sent += 2 * stream.Bytes
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	said := tapped.end(t, syscall.SIGINT)
	wantWhole(t, said)
	if want := fmt.Sprintf(` messages, %d bytes, %[1]d captured; `, sent); !strings.Contains(said, want) {
		t.Errorf("%d bytes were sent, the tap says %q", sent, said)
	}
	wantFaultless(t, file)
	for i := range pairs {
		client, server := followed(t, file, i)
		for seed, half := range map[uint32][]byte{stream.Seed: client, stream.Seed + 1: server} {
			p := traffic.NewPattern(seed)
			if err := p.Check(half); err != nil || p.Offset() != stream.Bytes {
				t.Errorf("stream %d, seed %d: %d of %d bytes, %v", i, seed, p.Offset(), stream.Bytes, err)
			}
		}
	}
	n.ok(t, "disable") // what comes now uses TCP
	for _, p := range pairs {
		p.send(t, 3, 1000)
		sent += 3000
	}
	var live way
	for _, f := range n.liveFlows(t) {
		live.redirected += f.RedirectedBytes
		live.tcp += f.TCPBytes
	}
	if live.redirected+live.tcp != sent || live.redirected == 0 || live.tcp < 9000 {
		t.Errorf("flows count %+v, sent %d", live, sent)
	}
	// Metrics of live flows are the same bytes as those of closed ones.
	if got := n.counted(t); got != live {
		t.Errorf("metrics count %+v, flows %+v", got, live)
	}
	for _, p := range pairs {
		p.close()
	}
	eventually(t, "all sockets are closed", func() bool { return len(n.liveFlows(t)) == 0 })
	if got := n.counted(t); got != live {
		t.Errorf("after the end metrics count %+v, flows counted %+v", got, live)
	}
}

func (n *testNode) liveFlows(t *testing.T) (flows []live.Flow) {
	t.Helper()
	n.read(t, &flows, "flows")
	return flows
}

// way has the bytes that were redirected and those that used TCP.
type way struct{ redirected, tcp uint64 }

// counted is the sum of all pods in the metrics.
func (n *testNode) counted(t *testing.T) (sum way) {
	t.Helper()
	for name, value := range n.scrape(t) {
		into := map[string]*uint64{
			"sockmap_redirected_bytes_total": &sum.redirected, "sockmap_tcp_bytes_total": &sum.tcp,
		}[strings.SplitN(name, "{", 2)[0]]
		if into == nil {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		*into += uint64(v)
	}
	return sum
}

func TestFirstMessageOverTCPHasItsAddresses(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	p := connect(t, g, ns, 1)[0]
	// Before the client has asked who its peer is. The reader's low-water mark keeps the messages on TCP.
	if err := setLowWater(p.server, 2); err != nil {
		t.Fatal(err)
	}
	tapped := n.startTap(t, "--with-tcp")
	p.send(t, 2, 1000)
	tapped.end(t, syscall.SIGINT)
	server := p.server.LocalAddr().String()
	if got := tapped.stdout.String(); strings.Count(got, server) != 2 {
		t.Errorf("the tap shows %q, want two messages to %s", got, server)
	}
}

func TestTapPrintsALineForEachMessage(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	p := connect(t, g, ns, 1)[0]
	tapped := n.startTap(t, "--address", "127.0.0.0/8")
	p.send(t, 2, 1000)
	pair{p.server, p.client}.send(t, 1, 300_000)
	n.ok(t, "disable")
	p.send(t, 1, 10) // over TCP: not asked for
	said := tapped.end(t, syscall.SIGINT)
	wantWhole(t, said)
	if !strings.HasPrefix(said, "3 messages, 302000 bytes, ") {
		t.Errorf("it says %q", said)
	}
	ends := regexp.QuoteMeta(fmt.Sprintf("%s > %s", p.client.LocalAddr(), p.server.LocalAddr()))
	back := regexp.QuoteMeta(fmt.Sprintf("%s > %s", p.server.LocalAddr(), p.client.LocalAddr()))
	want := regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{6} IP ` + ends + `: seq 1:1001, ack 1, length 1000: redirect, shop/web-0 > shop/web-0
[0-9:.]+ IP ` + ends + `: seq 1001:2001, ack 1, length 1000: redirect, shop/web-0 > shop/web-0
[0-9:.]+ IP ` + back + `: seq 1:300001, ack 2001, length 300000: redirect, shop/web-0 > shop/web-0
$`)
	if got := tapped.stdout.String(); !want.MatchString(got) {
		t.Errorf("it prints\n%swant\n%s", got, want)
	}
}

func TestTapMarksPacketsThatWereCut(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	p := connect(t, g, ns, 1)[0]
	file := captureFile(t)
	tapped := n.startTap(t, "--snap", "100", "-w", file)
	p.send(t, 3, 100_000)
	const want = "3 messages, 300000 bytes, 300 captured; "
	if said := tapped.end(t, syscall.SIGINT); !strings.HasPrefix(said, want) {
		t.Errorf("it says %q", said)
	}
	if out := tshark(t, file, "-Y", faults); out != "" {
		t.Errorf("tshark finds fault with:\n%s", out)
	}
	var length, captured int
	fields := []string{"-Y", "tcp.len > 0", "-T", "fields", "-e", "frame.len", "-e", "frame.cap_len"}
	for line := range strings.Lines(tshark(t, file, fields...)) {
		var l, c int
		if _, err := fmt.Sscan(line, &l, &c); err != nil {
			t.Fatal(err)
		}
		length, captured = length+l-40, captured+c-40
	}
	if length != 300_000 || captured != 300 {
		t.Errorf("%d bytes of %d", captured, length)
	}
}

func TestTapEndsAtItsBounds(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	for _, tt := range []struct{ flag, value, want string }{
		{"--count", "2", "2 messages, 20000 bytes, 20000 captured; "},
		{"--max-bytes", "25000", "2 messages, 20000 bytes, 20000 captured; "},
		{"--max-bytes", "20000", "2 messages, 20000 bytes, 20000 captured; "},
		{"--duration", "1500ms", "4 messages, 40000 bytes, 40000 captured; "},
	} {
		p := connect(t, g, ns, 1)[0]
		tapped := n.startTap(t, tt.flag, tt.value, "-w", captureFile(t))
		p.send(t, 4, 10_000)
		if said := tapped.wait(t); !strings.HasPrefix(said, tt.want) {
			t.Errorf("%s %s: %q", tt.flag, tt.value, said)
		}
		if n.tapped(t) {
			t.Errorf("%s %s: the verdict goes on", tt.flag, tt.value)
		}
	}
}

func TestTapCountsMessagesBeyondItsRate(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	p := connect(t, g, ns, 1)[0]
	tapped := n.startTap(t, "--rate", "1", "-w", captureFile(t))
	p.send(t, 8, 200_000) // the largest message is what may come at once: two of these
	said := tapped.end(t, syscall.SIGINT)
	if want := "2 messages, 400000 bytes, 400000 captured; dropped: 0 messages (0 bytes) without room, 6 (1200000 bytes) by --rate\n"; said != want {
		t.Errorf("got  %qwant %q", said, want)
	}
}

func TestAKilledTapIsForgotten(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	p := connect(t, g, ns, 1)[0]
	tapped := n.startTap(t, "-w", captureFile(t))
	second := n.run(t, "tap", "-w", captureFile(t))
	want := regexp.MustCompile(`^sockmapctl: tap: another tap is running \(there is one at a time; one that was killed is forgotten in [0-9.]+m?s\)\n$`)
	if second.code != exitError || !want.MatchString(second.stderr) {
		t.Errorf("a second tap: %d, %q", second.code, second.stderr)
	}
	if err := tapped.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = tapped.cmd.Wait()
	killed := time.Now()
	eventually(t, "the verdict copies no more", func() bool { return !n.tapped(t) })
	if took := time.Since(killed); took > datapath.TapLease+time.Second {
		t.Errorf("it went on for %v", took)
	}
	p.send(t, 1, 1000)
	file := captureFile(t)
	next := n.startTap(t, "-w", file)
	p.send(t, 1, 77)
	if said := next.end(t, syscall.SIGINT); !strings.HasPrefix(said, "1 messages, 77 bytes, ") {
		t.Errorf("the next tap says %q", said)
	}
	wantFaultless(t, file)
}

func TestARefusedTapLeavesTheFileOfTheOther(t *testing.T) {
	n := newLoadedNode(t)
	file := captureFile(t)
	n.startTap(t, "-w", file)
	// It makes the file first, empties it then, and writes the capture's head at the end of its first pause.
	eventually(t, "the tap has written to its file", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > 0
	})
	if err := os.WriteFile(file, []byte("something"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := n.run(t, "tap", "-w", file); r.code != exitError {
		t.Fatalf("a second tap: %d", r.code)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "something" {
		t.Errorf("the file has %q, %v", got, err)
	}
}

func TestTapLeavesNothingWhenItsReaderIsGone(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	p := connect(t, g, ns, 1)[0]
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(n.dir, "tap", "-w", "-")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	eventually(t, "the tap listens", func() bool { return n.tapped(t) })
	r.Close()
	p.send(t, 1, 100)
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitError {
		t.Errorf("it ended with %v", err)
	}
	if n.tapped(t) || strings.Contains(stderr.String(), "sockmapctl:") {
		t.Errorf("copying: %v; it says %q", n.tapped(t), stderr.String())
	}
}

func TestTapEndsWhenSockmapIsUnloaded(t *testing.T) {
	n := newLoadedNode(t)
	cmd := n.startTap(t)
	n.ok(t, "unload")
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.cmd.Process.Kill() })
	defer late.Stop()
	if _ = cmd.cmd.Wait(); cmd.cmd.ProcessState.ExitCode() != exitNotLoaded {
		t.Errorf("it ended with %v: %s", cmd.cmd.ProcessState, cmd.stderr.String())
	}
}

func TestTapOfAPodLeavesOthersOut(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	p := connect(t, g, ns, 1)[0]
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"--pod", "web-0"}, 1},
		{[]string{"--pod", "shop/web-0", "--port", fmt.Sprint(p.server.LocalAddr().(*net.TCPAddr).Port)}, 1},
		{[]string{"--pod", "other/web-0"}, 0},
		{[]string{"--namespace", "other"}, 0},
		{[]string{"--address", "127.0.0.1"}, 1},
		{[]string{"--address", "10.0.0.0/8"}, 0},
		{[]string{"--netns", ns.Path}, 1},
		{[]string{"--port", "1"}, 0},
	} {
		tapped := n.startTap(t, tt.args...)
		p.send(t, 1, 10)
		want := fmt.Sprintf("%d messages, %d bytes, ", tt.want, 10*tt.want)
		if said := tapped.end(t, syscall.SIGINT); !strings.Contains(said, want) {
			t.Errorf("%s: %q", tt.args, said)
		}
	}
}

func TestTapFollowsAPodThatIsAddedLater(t *testing.T) {
	n := newLoadedNode(t)
	other, elsewhere := n.shop(t)
	g, ns := newGroup(t), netnstest.New(t)
	tapped := n.startTap(t, "--pod", "late")
	n.add(t, endpoint.Sandbox{ContainerID: "late", PodNamespace: "shop", PodName: "late"}, ns, g)
	fixture.Elapse(2*namesEvery, "the tap learns of containers each namesEvery")
	connect(t, other, elsewhere, 1)[0].send(t, 1, 5)
	connect(t, g, ns, 1)[0].send(t, 1, 10)
	if said := tapped.end(t, syscall.SIGINT); !strings.Contains(said, "1 messages, 10 bytes, ") {
		t.Errorf("it says %q", said)
	}
	if out := tapped.stdout.String(); !strings.Contains(out, ", shop/late > shop/late\n") {
		t.Errorf("it prints %q", out)
	}
}
