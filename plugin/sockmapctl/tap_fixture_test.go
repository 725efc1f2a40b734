// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// tapProcess is sockmapctl tap in a process of its own.
type tapProcess struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// startTap returns when messages are copied.
func (n *testNode) startTap(t *testing.T, args ...string) *tapProcess {
	t.Helper()
	p := &tapProcess{cmd: program(n.dir, append([]string{"tap"}, args...)...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("tap said: %s", p.stderr.String())
		}
	})
	eventually(t, "the tap listens", func() bool { return n.tapped(t) })
	return p
}

func (n *testNode) tapped(t *testing.T) bool {
	t.Helper()
	cfg, err := n.open(t).Config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Tapped
}

// end interrupts the tap, which must end well, and returns its last message.
func (p *tapProcess) end(t *testing.T, signal syscall.Signal) string {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return p.wait(t)
}

func (p *tapProcess) wait(t *testing.T) string {
	t.Helper()
	late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("tap: %v: %s", err, p.stderr.String())
	}
	return p.stderr.String()
}

// wantWhole expects that the tap has missed nothing.
func wantWhole(t *testing.T, said string) {
	t.Helper()
	if !strings.Contains(said, "dropped: 0 messages (0 bytes) without room, 0 (0 bytes) by --rate\n") {
		t.Errorf("the tap says %q", said)
	}
}

// shop is a pod in which servers and clients run.
func (n *testNode) shop(t *testing.T) (*group, *netnstest.NetNS) {
	t.Helper()
	g, ns := newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "0123456789abcdef", PodNamespace: "shop", PodName: "web-0"}, ns, g)
	return g, ns
}

// serve runs a server in the place until the test ends.
func serve(t *testing.T, g *group, ns *netnstest.NetNS, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	var err error
	g.in(t, func() { ns.Do(func() { err = cmd.Start() }) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said: %s", name, log.Bytes())
		}
	})
}

// outputIn runs a client in the place.
func outputIn(
	t *testing.T, g *group, ns *netnstest.NetNS, stdin, name string, args ...string,
) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	var err error
	g.in(t, func() { ns.Do(func() { err = cmd.Start() }) })
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	return out.String(), err
}

// tshark reads a capture, with everything that it can find fault with.
func tshark(t *testing.T, file string, args ...string) string {
	t.Helper()
	args = append([]string{"-n", "-r", file, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"},
		args...)
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark %s: %v: %s", strings.Join(args, " "), err, complaint.Bytes())
	}
	return string(out)
}

// faults selects the packets in which Wireshark marks an error of the stream.
const faults = "tcp.analysis.lost_segment or tcp.analysis.ack_lost_segment or tcp.analysis.retransmission or " +
	"tcp.analysis.out_of_order or tcp.analysis.duplicate_ack or tcp.analysis.window_full or tcp.analysis.reused_ports or " +
	"tcp.checksum.status == 0 or ip.checksum.status == 0 or _ws.malformed"

// wantFaultless also asks that tshark did look: all checksums are good.
func wantFaultless(t *testing.T, file string) {
	t.Helper()
	if out := tshark(t, file, "-Y", faults); out != "" {
		t.Errorf("tshark finds fault with:\n%.3000s", out)
	}
	all, good := lineCount(tshark(t, file)), lineCount(tshark(t, file, "-Y", "tcp.checksum.status == 1"))
	if all == 0 || all != good {
		t.Errorf("%d of %d packets have a good checksum", good, all)
	}
}

func lineCount(s string) int { return strings.Count(s, "\n") }

func captureFile(t *testing.T) string { return filepath.Join(t.TempDir(), "tap.pcapng") }

// setLowWater sets SO_RCVLOWAT.
func setLowWater(c *net.TCPConn, bytes int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes)
	})
	return errors.Join(err, failed)
}
