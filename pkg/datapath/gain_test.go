// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// As in bpf/gain.h.
const (
	lossesCorked = 64
	lossesPages  = 16
	tinyMessages = 1024
	streamBegins = 4
)

func setTCPOption(t *testing.T, c *net.TCPConn, option, value int) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, value)
	})
}

// corkedAnswers is what nginx does with tcp_nopush: head and body under TCP_CORK, after a request.
func corkedAnswers(t *testing.T, _ *Datapath, client, server *net.TCPConn, messages int) {
	for i := range messages / 2 {
		send(t, client, server, 100, uint64(i))
		setTCPOption(t, server, unix.TCP_CORK, 1)
		head, body := pattern(make([]byte, 200), uint64(i)), pattern(make([]byte, 3000), uint64(i))
		write(t, server, head)
		write(t, server, body)
		setTCPOption(t, server, unix.TCP_CORK, 0)
		receive(t, client, append(head, body...))
	}
}

// files is what nginx does with sendfile, after a request: each answer of 16 KiB is one message at least.
func files(t *testing.T, _ *Datapath, client, server *net.TCPConn, answers int) {
	want := pattern(make([]byte, 16<<10), 5)
	name := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range answers {
		send(t, client, server, 100, uint64(i))
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(server, file); err != nil || n != int64(len(want)) {
			t.Fatalf("send a file: %d, %v", n, err)
		}
		file.Close()
		receive(t, client, want)
	}
}

// smallOneWay sends messages of 64 bytes to a reader that keeps up.
func smallOneWay(t *testing.T, _ *Datapath, client, server *net.TCPConn, messages int) {
	const batch = 32
	for i := range messages / batch {
		want := pattern(make([]byte, 64*batch), uint64(i))
		for j := range batch {
			write(t, server, want[64*j:64*(j+1)])
		}
		receive(t, client, want)
	}
}

// lowWater is a reader that has set SO_RCVLOWAT and answers.
func lowWater(t *testing.T, _ *Datapath, client, server *net.TCPConn, messages int) {
	setLowWater(t, client, 10)
	for i := range messages {
		send(t, server, client, 100, uint64(i))
		if i%16 == 0 {
			send(t, client, server, 100, uint64(i))
		}
	}
}

// The server is the end that decides. Each row first does a little less, and is still redirected.
func TestFlowsThatGainNothingLeave(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(t *testing.T, d *Datapath, client, server *net.TCPConn, messages int)
		few    int
		many   int
		reason Reason
	}{
		{"corked", corkedAnswers, lossesCorked - 2, 20, ReasonCorked},
		{"pages", files, lossesPages/4 - 1, 20, ReasonPages}, // before 6.5 each page is a message
		{"small", smallOneWay, streamBegins * tinyMessages, 2 * tinyMessages, ReasonSmall},
		{"kept", lowWater, 10, 40, ReasonRcvlowat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, g := load(t, defaults), newGroup(t)
			g.attach(t, d)
			client, server := g.pair(t, "tcp4", "127.0.0.1:0")
			send(t, client, server, 100, 1)
			send(t, server, client, 100, 2)
			tt.do(t, d, client, server, tt.few)
			if f, ok := flowOf(t, d, server); !ok || f.Left || tt.reason != ReasonRcvlowat && f.Mode != ModeRedirect {
				t.Fatalf("after %d: %+v", tt.few, f)
			}
			tt.do(t, d, client, server, tt.many)
			wantLeft(t, d, client, server)
			if f, _ := flowOf(t, d, server); f.Reason != tt.reason {
				t.Errorf("left for %v, want %v", f.Reason, tt.reason)
			}
			send(t, client, server, 100<<10, 3)
			send(t, server, client, 100<<10, 4)
			wantNoSockets(t, d)
		})
	}
}

// wantLeft exchanges bytes until both ends have left.
func wantLeft(t *testing.T, d *Datapath, client, server *net.TCPConn) {
	t.Helper()
	var ends [2]Flow
	defer func() {
		if t.Failed() {
			t.Logf("client: %+v\nserver: %+v", ends[0], ends[1])
		}
	}()
	eventually(t, "both ends have left", func() bool {
		send(t, client, server, 10, 1)
		send(t, server, client, 10, 1)
		ends[0], _ = flowOf(t, d, client)
		ends[1], _ = flowOf(t, d, server)
		return ends[0].Left && ends[1].Left
	})
}

// A program that has used sendfile(2) once sends other messages as before.
func TestMessagesOfAProgramThatUsedSendfileAreRedirected(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	files(t, d, client, server, 1)
	for i := range 4 * lossesPages {
		send(t, server, client, 64<<10, uint64(i))
	}
	if f, _ := flowOf(t, d, server); f.Left || f.Mode != ModeRedirect {
		t.Errorf("%+v", f)
	}
}

// If the last four connections to a destination have left, the fifth is plain TCP from the start. After one
// that gains, others enter the sockhash again.
func TestDestinationsOfFlowsThatLeftStartAsTCP(t *testing.T) {
	const streamsMax = 4 // STREAMS_MAX of bpf/history.h
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	for range streamsMax {
		g.streamLeaves(t, d, l)
	}
	// Some enter the sockhash as samples.
	const streamLetIn = 4 // STREAM_LET_IN_AT_ONCE of bpf/history.h
	kept := g.keptOut(t, d, l, 4*streamLetIn)
	if n := results(t, d)[ResultStream]; kept == 0 || n != uint64(kept) {
		t.Errorf("%d of %d connections were kept on TCP, counted %d", kept, 4*streamLetIn, n)
	}
	fixture.Elapse(1200*time.Millisecond, "STREAM_LET_IN_EVERY_NS, a second, by a coarse clock")
	client, server := g.dialTo(t, l)
	for i := range uint64(20) {
		send(t, client, server, 100, i)
		send(t, server, client, 100, i)
	}
	client.Close()
	server.Close()
	before := results(t, d)[ResultStream]
	for range 10 {
		client, server := g.dialTo(t, l)
		client.Close()
		server.Close()
	}
	if n := results(t, d)[ResultStream] - before; n != 0 {
		t.Errorf("%d of 10 connections were kept on TCP after one that gained", n)
	}
}
