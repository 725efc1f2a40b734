// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// The connection ends while it leaves. All bytes sent before shutdown(2) or close(2) arrive; before a reset,
// the bytes that do arrive are right.
func TestConnectionClosedWhileItLeavesLosesNothing(t *testing.T) {
	const total = 1 << 20
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	want, random := pattern(make([]byte, total), 3), fixture.Rand(t)
	for name, end := range map[string]func(*testing.T, *net.TCPConn){
		"shutdown": func(t *testing.T, c *net.TCPConn) {
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		},
		"close": func(_ *testing.T, c *net.TCPConn) { c.Close() },
		"reset": resetBy,
	} {
		for range 15 {
			client, server := g.pair(t, "tcp4", "127.0.0.1:0")
			deadline(t, server)
			read := make(chan []byte, 1)
			go func() {
				got, _ := io.ReadAll(server)
				read <- got
			}()
			moment := time.AfterFunc(time.Duration(random.IntN(4000))*time.Microsecond, func() {
				if err := d.SetDisabled(true); err != nil {
					t.Error(err)
				}
			})
			sendInPieces(t, client, want, random)
			end(t, client)
			got := <-read
			if !bytes.HasPrefix(want, got) || name != "reset" && len(got) != total {
				t.Fatalf("%s: %d bytes of %d arrived, or others", name, len(got), total)
			}
			client.Close()
			server.Close()
			if !moment.Stop() {
				eventually(t, "the switch is turned", func() bool { return disabled(t, d) })
			}
			if err := d.SetDisabled(false); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the sockhash is empty", func() bool { return socketsIn(t, d) == 0 })
		}
	}
}

func sendInPieces(t *testing.T, c net.Conn, all []byte, random *rand.Rand) {
	t.Helper()
	deadline(t, c)
	for len(all) > 0 {
		n := min(1+random.IntN(16<<10), len(all))
		if _, err := c.Write(all[:n]); err != nil {
			t.Fatal(err)
		}
		all = all[n:]
	}
}
