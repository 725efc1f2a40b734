// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// group is a cgroup of the test's own.
type group struct {
	path string
	id   uint64
}

func newGroup(t testing.TB) *group {
	t.Helper()
	mount, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	path, err := os.MkdirTemp(mount.Path, "sockmapctl-test-")
	if err != nil {
		t.Fatal(err)
	}
	dir, id, err := cgroup.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	dir.Close()
	g := &group{path, id}
	t.Cleanup(func() { g.remove(t) })
	return g
}

func (g *group) remove(t testing.TB) {
	if err := os.Remove(g.path); err != nil && !os.IsNotExist(err) {
		t.Errorf("remove cgroup: %v", err)
	}
}

// in runs f while this process is in the group: sockets that f makes belong to it for life. Membership is of
// the whole process, so no test that uses it runs in parallel.
func (g *group) in(t testing.TB, f func()) {
	t.Helper()
	move(t, g.path)
	defer move(t, filepath.Dir(g.path))
	f()
}

func move(t testing.TB, path string) {
	t.Helper()
	procs := filepath.Join(path, "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		t.Fatal(err)
	}
}

// pair is the two ends of one connection.
type pair struct{ client, server *net.TCPConn }

// connect makes n connections over loopback whose sockets belong to the group and the namespace.
func connect(t testing.TB, g *group, ns *netnstest.NetNS, n int) []pair {
	t.Helper()
	var (
		pairs = make([]pair, 0, n)
		err   error
	)
	g.in(t, func() { ns.Do(func() { pairs, err = dialAll(pairs, n) }) })
	t.Cleanup(func() {
		for _, p := range pairs {
			p.close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return pairs
}

func dialAll(pairs []pair, n int) ([]pair, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return pairs, err
	}
	defer l.Close()
	for range n {
		var p pair
		if p.client, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr)); err != nil {
			return pairs, err
		}
		if err = l.SetDeadline(time.Now().Add(5 * time.Second)); err == nil {
			p.server, err = l.AcceptTCP()
		}
		pairs = append(pairs, p)
		if err != nil {
			return pairs, err
		}
	}
	return pairs, nil
}

func (p pair) close() {
	p.client.Close()
	if p.server != nil {
		p.server.Close()
	}
}

// send has the client write messages of size bytes, each read before the next.
func (p pair) send(t testing.TB, messages, size int) {
	t.Helper()
	buf := make([]byte, size)
	for range messages {
		if _, err := p.client.Write(buf); err != nil {
			t.Fatal(err)
		}
		p.server.SetReadDeadline(time.Now().Add(5 * time.Second))
		for got := 0; got < size; {
			n, err := p.server.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}
}
