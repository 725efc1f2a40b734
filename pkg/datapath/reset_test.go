// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// If a program closes a connection with unread bytes, TCP resets it. Without observers a redirected
// connection ends in order.
func TestCloseWithUnreadBytesResets(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	guards := learns(t, d)
	for _, sendsFirst := range []bool{false, true} {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		send(t, client, server, 100, 1)
		if _, err := client.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		answer := pattern(make([]byte, 50), 2)
		if _, err := server.Write(answer); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		deadline(t, client)
		receive(t, client, answer)
		if !guards {
			wantEOF(t, client)
			continue
		}
		if sendsFirst {
			if _, err := client.Write(answer); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("write after a close with bytes unread: %v", err)
			}
		} else if n, err := client.Read(make([]byte, 1)); n > 0 || !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("read after a close with bytes unread: %d bytes, %v", n, err)
		}
		if n, err := client.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("read once more: %d bytes, %v", n, err)
		}
		for range 2 {
			if _, err := client.Write(answer); !errors.Is(err, unix.EPIPE) {
				t.Errorf("write once more: %v", err)
			}
		}
	}
}

// Unread bytes are no reason for a reset while they can still be read, nor are those of earlier messages.
func TestOnlyUnreadBytesOfAClosedSocketReset(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 1)
	want := pattern(make([]byte, 100), 2)
	if _, err := client.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	deadline(t, client)
	wantEOF(t, client)
	more := pattern(make([]byte, 100), 3)
	if _, err := client.Write(more); err != nil {
		t.Errorf("write to a peer that has only finished sending: %v", err)
	}
	receive(t, server, append(want, more...))

	client, server = g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 4)
	send(t, server, client, 100, 5)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	deadline(t, client)
	wantEOF(t, client)
}
