// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

func grantedTo(t *testing.T, d *Datapath, cookie uint64) int64 {
	t.Helper()
	all, err := d.shares()
	if err != nil {
		t.Fatal(err)
	}
	return all[cookie].GrantedBytes
}

// After a window has grown, a new count has the same bytes as the programs.
func TestCountSharesKeepsGrantedWindows(t *testing.T) {
	d, g, ns := load(t, bounded(1024, 8<<20, 4096)), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	register(t, d, ns)
	client, server := g.pairIn(t, ns)
	growWindow(t, d, ns.Cookie, client, server)
	granted := grantedTo(t, d, ns.Cookie)
	if n, err := d.CountShares(); n != 0 || err != nil {
		t.Errorf("%d shares were changed, %v", n, err)
	}
	if now := grantedTo(t, d, ns.Cookie); now != granted {
		t.Errorf("%d bytes are granted, %d were", now, granted)
	}
}

// The sender's pod is deleted while its processes live, so no callback returns the growth of its window.
// Without a new count, the reader's pod could grant less and less.
func TestCountSharesReturnsWindowsOfSendersThatAreGone(t *testing.T) {
	d, g, ns := load(t, bounded(1024, 8<<20, 4096)), newGroup(t), netnstest.New(t)
	link := g.attach(t, d)
	register(t, d, ns)
	client, server := g.pairIn(t, ns)
	growWindow(t, d, ns.Cookie, client, server)
	if err := d.Detach(link); err != nil {
		t.Fatal(err)
	}
	client.Close()
	server.Close()
	eventually(t, "a new count has returned the window", func() bool {
		_, err := d.CountShares()
		return err == nil && grantedTo(t, d, ns.Cookie) == 0
	})
}

// growWindow sends bursts, each of which waits as a whole before it is read, until the window has grown
// twice.
func growWindow(t *testing.T, d *Datapath, reader uint64, client, server *net.TCPConn) {
	t.Helper()
	const piece = 16 << 10
	for round := range uint64(50) {
		burst := pattern(make([]byte, 200<<10<<min(round, 2)), round)
		for at := 0; at < len(burst); at += piece {
			if _, err := client.Write(burst[at:min(at+piece, len(burst))]); err != nil {
				t.Fatal(err)
			}
		}
		receive(t, server, burst)
		if granted := grantedTo(t, d, reader); granted >= windowGrowth(2) {
			return
		}
	}
	t.Fatalf("the window has not grown twice: %d bytes are granted", grantedTo(t, d, reader))
}
