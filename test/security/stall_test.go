// SPDX-License-Identifier: Apache-2.0

package security

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/slowpage"
)

// A reader in the middle of a slow copy holds its socket, and so blocks every sender that redirects to it,
// even a non-blocking one. Over TCP the sender does not notice. The setting peers decides to whom a reader
// can do that.
func TestReaderOnASlowPageBlocksItsSenders(t *testing.T) {
	for peers, want := range map[string]bool{"node": true, "namespace": false} {
		t.Run(peers, func(t *testing.T) {
			w := newWorld(t, map[string]any{"peers": peers})
			reader, sender := connect(t, w.attacker, listen(t, w.other, port))
			pass(t, sender, reader, "hello")
			if _, joined := w.flowOf(sender); joined != want {
				t.Fatalf("a flow: %v, want %v", joined, want)
			}
			page := slowpage.New(t)
			if _, err := sender.Write([]byte("a")); err != nil {
				t.Fatal(err)
			}
			var received <-chan error
			control(t, reader, func(fd int) (err error) {
				received, err = page.Receive(fd)
				return err
			})
			sent := make(chan error, 1)
			held, _ := fixture.SleepsOrReturns(t, unix.SYS_WRITE, func() {
				_, err := sender.Write([]byte("b"))
				sent <- err
			})
			if held != want {
				t.Errorf("the sender is held: %v, want %v", held, want)
			}
			if err := page.GoOn(); err != nil {
				t.Fatal(err)
			}
			for what, done := range map[string]<-chan error{"the reader": received, "the sender": sent} {
				if err := fixture.Receive(t, what+" goes on", done); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			if got, err := take(reader, 1, 5*time.Second); page.Byte() != 'a' || got != "b" {
				t.Errorf("received %q and %q, %v", page.Byte(), got, err)
			}
		})
	}
}
