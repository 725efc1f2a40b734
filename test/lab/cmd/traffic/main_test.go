// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// The program replaces itself when it starts, so it is tested as a process.
func build(t *testing.T) (bin string) {
	t.Helper()
	bin = filepath.Join(t.TempDir(), "traffic")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

func startServer(t *testing.T, bin, listen string) (addr string) {
	t.Helper()
	cmd := exec.Command(bin, "serve", "-listen", listen, "-cpu", "0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ready traffic.Ready
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatal(err)
	}
	return ready.Listen
}

func client(t *testing.T, bin string, args ...string) (r traffic.Report, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin, args...).Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

func TestClientsMeasureAServer(t *testing.T) {
	bin := build(t)
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		addr := startServer(t, bin, listen)
		for _, kind := range []string{"rr", "crr"} {
			r, err := client(t, bin, kind, "-connect", addr, "-size", "100", "-count", "50", "-warmup", "5", "-cpu",
				"0")
			if err != nil {
				t.Fatalf("%s on %s: %v", kind, addr, err)
			}
			if r.Kind != kind || r.Size != 100 || !r.Checked || r.Latency.Count != 50 || r.Latency.P50 <= 0 ||
				r.PerSecond <= 0 {
				t.Errorf("%s on %s: implausible report %+v", kind, addr, r)
			}
		}
		for _, check := range []string{"-check=true", "-check=false"} {
			r, err := client(t, bin, "stream", "-connect", addr, "-size", "10000", "-bytes", "1234567", check)
			if err != nil {
				t.Fatalf("stream on %s: %v", addr, err)
			}
			if r.Transfer.Bytes != 1234567 || r.BytesPerSecond <= 0 {
				t.Errorf("stream on %s: implausible report %+v", addr, r)
			}
		}
	}
}

func TestDurationEndsByTimeOrBySignal(t *testing.T) {
	bin := build(t)
	addr := startServer(t, bin, "127.0.0.1:0")
	r, err := client(t, bin, "rr", "-connect", addr, "-warmup", "0", "-duration", "50ms")
	if err != nil || r.Latency.Count == 0 || r.Elapsed < 40*time.Millisecond {
		t.Errorf("rr: %+v, %v", r, err)
	}
	for _, kind := range []string{"rr", "stream"} {
		cmd := exec.Command(bin, kind, "-connect", addr, "-duration", "50s")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fixture.Elapse(300*time.Millisecond, "into the traffic")
		if err := cmd.Process.Signal(unix.SIGUSR1); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), `"checked":true`) {
			t.Errorf("%s: %v: %s", kind, err, out.String())
		}
	}
}

func TestWrongUsageIsReported(t *testing.T) {
	bin := build(t)
	addr := startServer(t, bin, "127.0.0.1:0")
	for _, c := range []struct{ args, want string }{
		{"", "usage:"},
		{"dance", "usage:"},
		{"rr -connect nowhere", "parse address"},
		{"rr -connect 127.0.0.1:1", "connection refused"},
		{"rr -size 0 -connect " + addr, "too small"},
		{"stream -connect " + addr, "-bytes and -duration"},
		{"rr -cpu 1000 -connect " + addr, "pin thread to CPU 1000"},
	} {
		var failed *exec.ExitError
		_, err := client(t, bin, strings.Fields(c.args)...)
		if !errors.As(err, &failed) || !strings.Contains(string(failed.Stderr), c.want) {
			t.Errorf("traffic %s: %v, %s; want status 1 and %q", c.args, err, failed.Stderr, c.want)
		}
	}
}

// listener listens on a free port of loopback, and never accepts. The caller closes it.
func listener(t *testing.T) (l conn, addr string) {
	t.Helper()
	l, sa, err := socket("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.listen(sa, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if addr, err = l.name(); err != nil {
		t.Fatal(err)
	}
	return l, addr
}

func TestSilentServerDoesNotHoldTheClient(t *testing.T) {
	bin := build(t)
	l, addr := listener(t)
	defer l.close()
	var failed *exec.ExitError
	if _, err := client(t, bin, "rr", "-connect", addr, "-timeout", "100ms"); !errors.As(err, &failed) ||
		failed.ExitCode() != 3 {
		t.Errorf("client: %v, want status 3", err)
	}
}

// With the guard for blocking readers, connections of blocking sockets stay on TCP: the demonstration would
// show nothing there.
func TestSocketsOfBothEndsAreNonBlocking(t *testing.T) {
	l, addr := listener(t)
	defer l.close()
	client, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.close()
	server, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()
	for end, c := range map[string]conn{"client": client, "server": server} {
		flags, err := unix.FcntlInt(uintptr(c), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("%s: flags %#x, %v", end, flags, err)
		}
	}
	gone, addr := listener(t)
	gone.close()
	if _, err := dial(addr); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial a port without a listener: %v", err)
	}
}
