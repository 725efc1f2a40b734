// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// noting loads with all guards, where that of splice can see whose socket is spliced.
func noting(t *testing.T) (*Datapath, *group) {
	t.Helper()
	d, g := load(t, guarded), newGroup(t)
	states, err := d.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	splice := states[slices.Index(Guards[:], GuardSplice)]
	if !strings.HasPrefix(splice.Hook, lsmPrefix) {
		if inGuest() {
			t.Fatalf("LSM programs do not run: %+v", splice)
		}
		t.Skipf("this kernel takes no LSM programs, make test-vm runs it on kernels that do: %+v", splice)
	}
	g.attach(t, d)
	return d, g
}

// spliceOnce is one splice(2), or sendfile(2), of what waits at c into a pipe.
func spliceOnce(t *testing.T, c *net.TCPConn, sendfile bool) (err error) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	rawConn(t, c).control(t, func(fd int) error {
		if sendfile {
			_, err = unix.Sendfile(pipe[1], fd, nil, 4096)
		} else {
			_, err = unix.Splice(fd, nil, pipe[1], nil, 4096, unix.SPLICE_F_NONBLOCK)
		}
		return nil
	})
	return err
}

// connected is a connection to the listener whose both directions are redirected, and the bytes that wait at
// its server.
func connected(t *testing.T, g *group, l net.Listener) (client, server *net.TCPConn, waits []byte) {
	t.Helper()
	g.in(t, func() { client, server = dial(t, "tcp4", l.Addr().String()), accept(t, l) })
	t.Cleanup(func() { client.Close(); server.Close() })
	send(t, client, server, 1000, 1)
	send(t, server, client, 1000, 2)
	waits = pattern(make([]byte, 1000), 3)
	write(t, client, waits)
	return client, server, waits
}

// A server that closes its connection after a refusal meets one refusal. Its later connections stay on TCP,
// where splice works.
func TestServerThatOnlySplicesIsRefusedOnce(t *testing.T) {
	for name, again := range map[string]bool{"closes": false, "splices again": true} {
		t.Run(name, func(t *testing.T) {
			d, g := noting(t)
			var l net.Listener
			g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
			client, server, _ := connected(t, g, l)
			if err := spliceOnce(t, server, false); !errors.Is(err, unix.EINVAL) {
				t.Fatalf("splice of redirected bytes: %v, want EINVAL", err)
			}
			if again {
				if err := spliceOnce(t, server, false); !errors.Is(err, unix.EINVAL) {
					t.Fatalf("another splice of them: %v, want EINVAL", err)
				}
			} else {
				server.Close()
				client.Close()
			}
			eventually(t, "the port is noted", func() bool {
				all, err := d.ListAvoided()
				return err == nil && len(all) == 1 && slices.Equal(all[0].Why, []Reason{ReasonSplice})
			})
			_, server, waits := connected(t, g, l)
			if got := spliced(t, server, len(waits)); string(got) != string(waits) {
				t.Errorf("a later connection splices %d bytes, or others", len(got))
			}
		})
	}
}

// A program that was refused and splices on its own connection once it has read what was redirected is served
// over TCP.
func TestSpliceAfterARefusalIsServedOverTCP(t *testing.T) {
	d, g := noting(t)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	client, server, waits := connected(t, g, l)
	for range 2 {
		if err := spliceOnce(t, server, false); !errors.Is(err, unix.EINVAL) {
			t.Fatalf("splice of redirected bytes: %v, want EINVAL", err)
		}
	}
	receive(t, server, waits)
	more := pattern(make([]byte, 5000), 4)
	write(t, client, more)
	if f, _ := flowOf(t, d, client); f.Reason != ReasonSplice && !f.Left {
		t.Errorf("the client sends by %v, %v", f.Mode, f.Reason)
	}
	eventually(t, "all have come", func() bool { return unreadAt(t, server) == len(more) })
	if got := spliced(t, server, len(more)); string(got) != string(more) {
		t.Errorf("splice moves %d bytes, or others", len(got))
	}
}

// A program that reads after the refusal, as Go and HAProxy do, is accelerated as before, and so are later
// connections.
func TestProgramThatReadsAfterARefusedSpliceStaysAccelerated(t *testing.T) {
	for name, sendfile := range map[string]bool{"splice": false, "sendfile to a pipe": true} {
		t.Run(name, func(t *testing.T) {
			d, g := noting(t)
			client, server := redirected(t, d, g)
			want := pattern(make([]byte, 1000), 3)
			write(t, client, want)
			if err := spliceOnce(t, server, sendfile); !errors.Is(err, unix.EINVAL) {
				t.Fatalf("%v, want EINVAL", err)
			}
			receive(t, server, want)
			send(t, client, server, 1000, 4)
			if f, _ := flowOf(t, d, client); f.Mode != ModeRedirect {
				t.Errorf("the client sends by %v, %v", f.Mode, f.Reason)
			}
			server.Close()
			client.Close()
			eventually(t, "both ends have closed", func() bool {
				live := 0
				return d.Flows(func(Flow) bool { live++; return true }) == nil && live == 0
			})
			if all, err := d.ListAvoided(); err != nil || len(all) != 0 {
				t.Errorf("noted: %+v, %v", all, err)
			}
		})
	}
}
