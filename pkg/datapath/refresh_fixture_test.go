// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// stateSeconds is after how long the routers of these tests forget a connection. In a slow guest connections
// are busy less often.
var stateSeconds = func() int {
	if inGuest() {
		return 10
	}
	return 4
}()

const (
	exchangeEvery  = 50 * time.Millisecond
	exchangeBytes  = 200
	patience       = 4 * time.Second // for a message or an end that may never come
	acceleratedOn  = 8080
	plainOn        = 8081
	connectionsMax = 200
)

// traffic is the ends that send on a connection.
type traffic int

const (
	bothWays traffic = iota
	clientSends
	serverSends
	silent
)

func (k traffic) String() string {
	return [...]string{"both ways", "client sends", "server sends", "silent"}[k]
}

// talk is one connection of a test. One goroutine at a time has both ends.
type talk struct {
	class          string
	kind           traffic
	client, server *net.TCPConn
	net            *routed
	serverNS       *netnstest.NetNS
	accelerated    bool
	closes         bool // at the end of its use; others are sent to TCP first
	messages       uint64
	fault          string // the first; empty: none
}

// say sends one message and reads it at the other end.
func (k *talk) say(from, to *net.TCPConn) error {
	k.messages++
	want := pattern(make([]byte, exchangeBytes), k.messages)
	end := time.Now().Add(patience)
	if err := errors.Join(from.SetWriteDeadline(end.Add(time.Second)), to.SetReadDeadline(end)); err != nil {
		return err
	}
	if _, err := from.Write(want); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(to, got); err != nil {
		// If it was reset, its sender knows.
		if _, again := from.Write(want); errors.Is(again, syscall.ECONNRESET) || errors.Is(again, syscall.EPIPE) {
			return again
		}
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("other bytes than were sent")
	}
	return nil
}

func (k *talk) failed(err error) {
	if err == nil || k.fault != "" {
		return
	}
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		k.fault = "reset"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		k.fault = "lost"
	default:
		k.fault = err.Error()
	}
}

// begin lets both ends have sent and read before the test begins, so that the next message is redirected.
func (k *talk) begin() {
	for range 2 {
		k.failed(k.say(k.client, k.server))
		if k.fault == "" {
			k.failed(k.say(k.server, k.client))
		}
	}
}

// busy uses the connection until stop is closed.
func (k *talk) busy(stop <-chan struct{}) {
	tick := time.NewTicker(exchangeEvery)
	defer tick.Stop()
	for k.kind != silent && k.fault == "" {
		if k.kind != serverSends {
			k.failed(k.say(k.client, k.server))
		}
		if k.kind != clientSends && k.fault == "" {
			k.failed(k.say(k.server, k.client))
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// oneMore sends one message each way. The server begins if only the server has sent.
func (k *talk) oneMore() {
	first, second := k.client, k.server
	if k.kind == serverSends || k.kind == silent {
		first, second = second, first
	}
	k.failed(k.say(first, second))
	if k.fault == "" {
		k.failed(k.say(second, first))
	}
}

// wantEnd checks whether the other end and both kernels learn that the program at the client has closed its
// end.
func (k *talk) wantEnd(t *testing.T) {
	port := uint16(k.client.LocalAddr().(*net.TCPAddr).Port)
	if err := k.server.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Error(err)
	}
	n, err := k.server.Read(make([]byte, 1))
	if n != 0 {
		k.failed(errors.New("bytes that nobody sent"))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	k.failed(err)
	// Acknowledgements of an end may be delayed.
	fixture.Within(time.Second, func() bool { err = k.hangs(t, port); return err == nil })
	k.failed(err)
	k.server.Close()
}

// hangs names the end whose kernel does not know that the client has closed.
func (k *talk) hangs(t *testing.T, port uint16) error {
	if slices.Contains(tcpStates(t, k.serverNS, 2, port), stateEstablished) {
		return errors.New("server stays established")
	}
	if slices.Contains(tcpStates(t, k.net.client, 1, port), stateFinWait1) {
		return errors.New("client waits in FIN_WAIT1")
	}
	return nil
}

// talks are the connections of a test.
type talks []*talk

// each runs f for all of them at once.
func (all talks) each(f func(*talk)) {
	var wg sync.WaitGroup
	for _, k := range all {
		wg.Go(func() { f(k) })
	}
	wg.Wait()
}

// only returns those with this class and traffic.
func (all talks) only(fits func(*talk) bool) (some talks) {
	for _, k := range all {
		if fits(k) {
			some = append(some, k)
		}
	}
	return some
}

// faults counts them by class and traffic.
func (all talks) faults() (faulty int, table string) {
	type row struct{ class, kind string }
	counts, of := map[row]map[string]int{}, map[row]int{}
	var order []row
	for _, k := range all {
		r := row{k.class, k.kind.String()}
		if counts[r] == nil {
			counts[r] = map[string]int{}
			order = append(order, r)
		}
		of[r]++
		if k.fault != "" {
			faulty++
			counts[r][k.fault]++
		}
	}
	for _, r := range order {
		table += fmt.Sprintf("%s, %s: %d of %d %v\n", r.class, r.kind, sum(counts[r]), of[r], counts[r])
	}
	return faulty, table
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// frontend makes connections over a routed net. Its listeners are in the group, or in none.
type frontend struct {
	net      *routed
	address  string // that clients connect to
	accepted chan acceptance
}

type acceptance struct {
	conn *net.TCPConn
	ns   *netnstest.NetNS
}

// openFrontend listens at both servers.
func openFrontend(t *testing.T, r *routed, ip string, port int) *frontend {
	t.Helper()
	f := &frontend{net: r, address: fmt.Sprintf("%s:%d", ip, port),
		accepted: make(chan acceptance, connectionsMax)}
	for _, ns := range r.servers {
		var l net.Listener
		ns.Do(func() { l = listen(t, "tcp4", fmt.Sprintf("0.0.0.0:%d", port)) })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return // the test has ended
				}
				f.accepted <- acceptance{c.(*net.TCPConn), ns}
			}
		}()
	}
	return f
}

// connect makes n connections, one after the other.
func (f *frontend) connect(t *testing.T, class string, kind traffic, n int) (all talks) {
	t.Helper()
	for range n {
		var client *net.TCPConn
		f.net.client.Do(func() { client = dialFrom(t, "0.0.0.0:0", f.address) })
		if client == nil {
			t.FailNow()
		}
		a := fixture.Receive(t, "a server accepts a connection to "+f.address, f.accepted)
		t.Cleanup(func() { a.conn.Close() })
		// Go's keepalive would keep the state, too, but every 15 s only.
		if err := errors.Join(client.SetKeepAlive(false), a.conn.SetKeepAlive(false)); err != nil {
			t.Fatal(err)
		}
		all = append(all, &talk{class: class, kind: kind, client: client, server: a.conn, net: f.net,
			serverNS: a.ns})
	}
	return all
}
