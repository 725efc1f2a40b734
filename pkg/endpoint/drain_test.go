// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// connected makes a connection over loopback. Both ends are in g, which accelerates every network namespace.
func connected(t *testing.T, g group) (client, server *net.TCPConn) {
	t.Helper()
	move := func(path string) {
		if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())),
			0); err != nil {
			t.Fatal(err)
		}
	}
	move(g.path)
	defer move(filepath.Dir(g.path))
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// redirected makes redirected bytes wait: once a first message was read, the next ones are redirected.
func redirected(t *testing.T, n *Node, client, server *net.TCPConn, want int) {
	t.Helper()
	buf := make([]byte, want)
	for deadline := time.Now().Add(patience); ; {
		if _, err := client.Write(buf); err != nil {
			t.Fatal(err)
		}
		if waiting(t, n) {
			return
		}
		if _, err := io.ReadFull(server, buf); err != nil || time.Now().After(deadline) {
			t.Fatalf("nothing is redirected: %v", err)
		}
	}
}

// waiting reports whether the last message was redirected.
func waiting(t *testing.T, n *Node) bool {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var found bool
	if err := d.Flows(func(f datapath.Flow) bool {
		found = found || f.Mode.String() == "redirect"
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// countedWaits counts how often somebody begins to wait with it.
type countedWaits struct {
	context.Context
	n atomic.Int64
}

func (c *countedWaits) Done() <-chan struct{} {
	c.n.Add(1)
	return c.Context.Done()
}

func TestDrainWaitsForReaders(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	if _, _, err := n.AttachCgroup(t.Context(), g.path); err != nil {
		t.Fatal(err)
	}
	client, server := connected(t, g)
	const size = 1000
	redirected(t, n, client, server, size)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if left, err := n.Drain(ctx); left != 1 || err != nil {
		t.Errorf("with a reader that does not read: %d left, %v; want 1", left, err)
	}
	drained := make(chan error, 1)
	waits := &countedWaits{Context: context.Background()}
	go func() {
		left, err := n.Drain(waits)
		if left != 0 {
			err = errors.Join(err, context.DeadlineExceeded)
		}
		drained <- err
	}()
	// The kill switch, which Drain turns on, may take a wait for the lock; each further one follows a check
	// that has found unread bytes.
	fixture.Wait(t, "Drain has checked and waits again", func() bool { return waits.n.Load() >= 5 })
	select {
	case err := <-drained:
		t.Fatalf("it has not waited: %v", err)
	default:
	}
	buf := make([]byte, size)
	if _, err := io.ReadFull(server, buf); err != nil {
		t.Fatal(err)
	}
	if err := fixture.Receive(t, "Drain ends", drained); err != nil {
		t.Fatal(err)
	}
	// The connection continues over TCP after an unload, and bytes that wait then do not hold up another
	// drain.
	if unloaded, err := n.Unload(t.Context(), false); err != nil || !unloaded {
		t.Fatalf("unload: %v", err)
	}
	if _, err := client.Write(buf); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, buf); err != nil {
		t.Error(err)
	}
}

func TestDrainWithoutFlowsIsNoError(t *testing.T) {
	n := newNode(t)
	if left, err := n.Drain(t.Context()); left != 0 || err != nil {
		t.Errorf("not loaded: %d, %v", left, err)
	}
	if _, err := n.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := n.Drain(t.Context()); left != 0 || err != nil {
		t.Errorf("no flows: %d, %v", left, err)
	}
}

func TestUnreadBytesSurviveADrainThatTimesOut(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	if _, _, err := n.AttachCgroup(t.Context(), g.path); err != nil {
		t.Fatal(err)
	}
	client, server := connected(t, g)
	const size = 777
	redirected(t, n, client, server, size)
	ctx, cancel := context.WithTimeout(t.Context(), 3*drainInterval)
	defer cancel()
	if left, err := n.Drain(ctx); left != 1 || err != nil {
		t.Fatalf("%d left, %v", left, err)
	}
	if _, err := n.Unload(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("and over TCP")); err != nil {
		t.Fatal(err)
	}
	client.CloseWrite()
	got, err := io.ReadAll(io.LimitReader(server, 1<<20))
	if err != nil || len(got) != size+len("and over TCP") {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
}
