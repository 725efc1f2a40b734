// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// A kill between the two halves of SetEndpoint: the state in force has the policy, the one that drains has
// not.
func TestAKilledSetEndpointReachesTheDrainingState(t *testing.T) {
	g, loaded := newGroup(t), load(t, defaults)
	dir := loaded.Dir()
	g.attach(t, loaded)
	cookie := netnstest.Cookie(t)
	if err := loaded.SetEndpoint(cookie, Policy{Accelerate: true}); err != nil {
		t.Fatal(err)
	}
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, client, server, loaded, true)
	d := mustResize(t, dir, sizedTo(t, 4096))
	old, _ := d.draining()
	t.Cleanup(func() { old.Close() })

	// As after a kill: the other state is hidden while the policy is set.
	there := d.layout.draining().state()
	if err := os.Rename(there, there+"x"); err != nil {
		t.Fatal(err)
	}
	if err := d.SetEndpoint(cookie, Policy{Accelerate: false}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(there+"x", there); err != nil {
		t.Fatal(err)
	}
	// Every later call does this: applyPolicies asks HasPolicy, and writes only the policies that differ.
	has, err := d.HasPolicy(cookie, Policy{Accelerate: false})
	if err != nil {
		t.Fatal(err)
	}
	if has {
		t.Error("HasPolicy: nothing is to be done, although the draining state has another policy")
	} else if err := d.SetEndpoint(cookie, Policy{Accelerate: false}); err != nil {
		t.Fatal(err)
	}
	wantRedirect(t, client, server, old, false)
}

// A resize that ends with an error (Linux before 5.17: EINVAL of RENAME_EXCHANGE, or a kill) loses nothing of
// connections that were made while both states had their links, and the old sockhash was full.
func TestAResizeThatFailsLosesNothing(t *testing.T) {
	small := defaults
	small.MaxSockets = 64
	g, loaded := newGroup(t), load(t, small)
	dir := loaded.Dir()
	g.attach(t, loaded)
	for range 40 { // more than fit
		g.pair(t, "tcp4", "127.0.0.1:0")
	}
	u := sizedTo(t, 4096)
	payload := make([]byte, 5000)
	var readers []io.Reader
	u.Step = func(name string) error {
		if name != "publish" {
			return nil
		}
		for range 4 {
			c, s := g.pair(t, "tcp4", "127.0.0.1:0")
			for range 4 {
				if _, err := c.Write(payload); err != nil {
					t.Error(err)
				}
			}
			s.SetReadDeadline(time.Now().Add(5 * time.Second))
			readers = append(readers, s)
		}
		if n, err := socketsLeft(current(dir).building(os.Getpid()), 1000); n == 0 || err != nil {
			t.Errorf("the state that is built has %d sockets, %v, so this test shows nothing", n, err)
		}
		return errors.New("exchange state directories: EINVAL")
	}
	if _, err := Resize(dir, u); err == nil {
		t.Fatal("no error")
	}
	for i, r := range readers {
		n, err := io.ReadFull(r, make([]byte, 20000))
		if n != 20000 {
			t.Errorf("connection %d: %d of 20000 bytes arrive, %v", i, n, err)
		}
	}
}
