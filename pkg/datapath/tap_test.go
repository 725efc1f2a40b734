// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

func openTap(t *testing.T, d *Datapath, f TapFilter, ring int) *Tap {
	t.Helper()
	own, err := Open(d.Dir())
	if err != nil {
		t.Fatal(err)
	}
	tap, err := OpenTap(own, f, ring)
	if err != nil {
		own.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(tap.Close(), own.Close()); err != nil {
			t.Error(err)
		}
	})
	return tap
}

// renew keeps the tap alive until the end of the test, like a process does.
func renew(t *testing.T, tap *Tap, f TapFilter) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(TapLease / 3):
				if err := tap.Renew(f); err != nil {
					t.Error(err)
				}
			}
		}
	})
	t.Cleanup(func() { close(stop); wg.Wait() })
}

// tapped reads until nothing has come for a while, and puts the stream of each sender together. Every byte
// must come once, right behind the one before.
func tapped(t *testing.T, tap *Tap, quiet time.Duration) (streams map[EndKey][]byte, chunks []TapChunk) {
	t.Helper()
	streams = map[EndKey][]byte{}
	for {
		var c TapChunk
		err := tap.Read(&c, time.Now().Add(quiet))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return streams, chunks
		}
		if err != nil {
			t.Fatal(err)
		}
		if next := c.Sender.Own + 1 + uint32(len(streams[c.Sender])); c.Seq+c.Offset != next {
			t.Fatalf("chunk at %d of a message of %d bytes has number %d, want %d", c.Offset, c.MessageBytes,
				c.Seq+c.Offset, next)
		}
		streams[c.Sender] = append(streams[c.Sender], c.Data...)
		c.Data = nil
		chunks = append(chunks, c)
	}
}

func wantNoDrops(t *testing.T, tap *Tap) {
	t.Helper()
	if drops, err := tap.Drops(); err != nil || drops != (TapDrops{}) {
		t.Errorf("dropped: %+v, %v", drops, err)
	}
}

func TestATapSeesEveryByteOfMessagesOfAllSizes(t *testing.T) {
	for _, tt := range []struct{ name, network, address string }{
		{"IPv4", "tcp4", "127.0.0.1:0"}, {"IPv6", "tcp6", "[::1]:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, g := load(t, defaults), newGroup(t)
			g.attach(t, d)
			everything := TapFilter{Snap: TapSnapMax, WithTCP: true}
			tap := openTap(t, d, everything, 64<<20)
			renew(t, tap, everything)
			client, server := g.pair(t, tt.network, tt.address)
			var want [2][]byte
			for i, size := range []int{1, 127, 128, 129, 1024, 1025, 4095, 4096, 4097, 40_000, 300_000, 544 << 10} {
				send(t, client, server, size, uint64(i))
				send(t, server, client, size, uint64(i)+100)
				want[0] = append(want[0], pattern(make([]byte, size), uint64(i))...)
				want[1] = append(want[1], pattern(make([]byte, size), uint64(i)+100)...)
			}
			streams, chunks := tapped(t, tap, 200*time.Millisecond)
			wantNoDrops(t, tap)
			for i, c := range []net.Conn{client, server} {
				f, _ := flowOf(t, d, c)
				if !bytes.Equal(streams[f.Key], want[i]) {
					t.Errorf("%s: %d bytes were sent, and other %d were seen", f.Role, len(want[i]), len(streams[f.Key]))
				}
				if uint64(len(streams[f.Key])) != f.RedirectedBytes+f.TCPBytes {
					t.Errorf("%s: %d bytes seen, the flow counts %d and %d", f.Role, len(streams[f.Key]), f.RedirectedBytes,
						f.TCPBytes)
				}
			}
			for _, c := range chunks {
				if c.Active.String() != client.LocalAddr().String() || c.Passive.String() != server.LocalAddr().String() {
					t.Fatalf("%s > %s in %+v", client.LocalAddr(), server.LocalAddr(), c)
				}
			}
		})
	}
}

func TestTapSeesAllBytesOfConcurrentFlows(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	const flows, messages = 4, 100
	everything := TapFilter{Snap: TapSnapMax, WithTCP: true}
	tap := openTap(t, d, everything, 256<<20)
	renew(t, tap, everything)
	want := map[EndKey][]byte{}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for flow := range uint64(flows) {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		for dir, ends := range [][2]net.Conn{{client, server}, {server, client}} {
			f, _ := flowOf(t, d, ends[0])
			wg.Go(func() {
				var all []byte
				for i := range uint64(messages) {
					// From 1 byte to 544 KiB, small ones more often.
					size, seed := 1+int(i*i*i*7919%(544<<10>>(i%8))), flow<<32|uint64(dir)<<16|i
					send(t, ends[0], ends[1], size, seed)
					all = append(all, pattern(make([]byte, size), seed)...)
				}
				mu.Lock()
				defer mu.Unlock()
				want[f.Key] = all
			})
		}
	}
	wg.Wait()
	streams, _ := tapped(t, tap, 200*time.Millisecond)
	wantNoDrops(t, tap)
	for key, bytesSent := range want {
		if !bytes.Equal(streams[key], bytesSent) {
			t.Errorf("%d bytes were sent, and other %d were seen", len(bytesSent), len(streams[key]))
		}
	}
	if len(want) != 2*flows || len(streams) != 2*flows {
		t.Errorf("%d directions sent, %d were seen", len(want), len(streams))
	}
}

func TestATapKeepsToItsFilter(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	tap := openTap(t, d, TapFilter{Snap: 100}, TapRingMin)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	port := uint16(server.LocalAddr().(*net.TCPAddr).Port)
	cookie := netnstest.Cookie(t)
	for _, tt := range []struct {
		name string
		f    TapFilter
		tcp  bool
		want bool
	}{
		{"everything", TapFilter{Snap: 100}, false, true},
		{"the port", TapFilter{Snap: 100, Port: port}, false, true},
		{"another port", TapFilter{Snap: 100, Port: port + 1}, false, false},
		{"the namespace", TapFilter{Snap: 100, NetNSCookie: cookie}, false, true},
		{"another namespace", TapFilter{Snap: 100, NetNSCookie: cookie + 1}, false, false},
		{"over TCP, not asked for", TapFilter{Snap: 100}, true, false},
		{"over TCP", TapFilter{Snap: 100, WithTCP: true}, true, true},
	} {
		if err := errors.Join(tap.Renew(tt.f), d.SetDisabled(tt.tcp)); err != nil {
			t.Fatal(err)
		}
		send(t, client, server, 5000, 1)
		var c TapChunk
		err := tap.Read(&c, time.Now().Add(100*time.Millisecond))
		if (err == nil) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && (len(c.Data) != 100 || c.MessageBytes != 5000 || c.Redirected == tt.tcp ||
			c.NetNSCookie != cookie ||
			c.PeerNetNSCookie != cookie || c.Role != RoleActive) {
			t.Errorf("%s: %d bytes of %+v", tt.name, len(c.Data), c)
		}
	}
	wantNoDrops(t, tap)
}

func TestFullTapRingCountsDropsAndDelaysNoFlow(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	tap := openTap(t, d, TapFilter{Snap: TapSnapMax, WithTCP: true}, TapRingMin)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	const messages, size = 5, 100_000
	for i := range uint64(messages) {
		send(t, client, server, size, i)
	}
	var seen uint64
	for {
		var c TapChunk
		if err := tap.Read(&c, time.Now().Add(50*time.Millisecond)); err != nil {
			break
		}
		seen += uint64(len(c.Data))
	}
	drops, err := tap.Drops()
	if err != nil || drops.Messages != messages || seen+drops.Bytes != messages*size || seen == 0 {
		t.Errorf("%d bytes seen, %+v dropped, %v; %d were sent", seen, drops, err, messages*size)
	}
}

func TestThereIsOneTapAtATime(t *testing.T) {
	d := load(t, defaults)
	first := openTap(t, d, TapFilter{Snap: 1}, TapRingMin)
	if _, err := OpenTap(d, TapFilter{Snap: 1}, TapRingMin); !errors.Is(err, ErrTapped) {
		t.Fatalf("a second tap: %v", err)
	}
	// The first is late, as if its process had been stopped.
	if err := d.update(func(c *bpf.SockmapConfig) { c.TapUntilNs = uint64(monotonic()) }); err != nil {
		t.Fatal(err)
	}
	second := openTap(t, d, TapFilter{Snap: 1}, TapRingMin)
	if err := first.Renew(TapFilter{Snap: 1}); !errors.Is(err, ErrTapped) {
		t.Errorf("the first goes on: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := second.Renew(TapFilter{Snap: 1}); err != nil {
		t.Errorf("the first took the second with it: %v", err)
	}
}

func TestATapThatIsNotRenewedEnds(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	tap := openTap(t, d, TapFilter{Snap: 1}, TapRingMin)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	if left := leaseOf(t, d); left < TapLease/2 || left > TapLease {
		t.Errorf("the lease ends in %v, want %v", left, TapLease)
	}
	// It ends now. The tap does not see the next message, and sees the one after the renewal.
	if err := d.update(func(c *bpf.SockmapConfig) { c.TapUntilNs = uint64(monotonic()) }); err != nil {
		t.Fatal(err)
	}
	send(t, client, server, 1, 1)
	if err := tap.Renew(TapFilter{Snap: 1}); err != nil {
		t.Fatal(err)
	}
	send(t, client, server, 2, 1)
	var c TapChunk
	if err := tap.Read(&c, time.Now().Add(fixture.Patience)); err != nil || c.MessageBytes != 2 {
		t.Errorf("the first message that is seen: %+v, %v; want that of two bytes", c, err)
	}
}

// leaseOf is the time after which the tap ends if it is not renewed.
func leaseOf(t *testing.T, d *Datapath) time.Duration {
	t.Helper()
	return time.Duration(rawConfigOf(t, d).TapUntilNs) - time.Duration(monotonic())
}

func TestClosedTapLeavesNothing(t *testing.T) {
	d := load(t, defaults)
	for range 3 {
		tap, err := OpenTap(d, TapFilter{Snap: 1}, TapRingMin)
		if err != nil {
			t.Fatal(err)
		}
		if err := tap.Close(); err != nil {
			t.Fatal(err)
		}
		var id uint32
		if err := d.maps[bpf.SockmapMapTapRing].Lookup(uint32(0), &id); err == nil {
			t.Errorf("the verdict still has ring %d", id)
		}
		if cfg, err := d.config(); err != nil || cfg.TapUntilNs != 0 || cfg.Tap != (bpf.SockmapTapFilter{}) {
			t.Errorf("config has %+v until %d, %v", cfg.Tap, cfg.TapUntilNs, err)
		}
	}
}

func TestTapRefusesSizesOutOfBounds(t *testing.T) {
	d := load(t, defaults)
	for _, tt := range []struct {
		snap uint32
		ring int
	}{{0, TapRingMin}, {TapSnapMax + 1, TapRingMin}, {1, TapRingMin - 1}, {1, TapRingMax + 1}} {
		if tap, err := OpenTap(d, TapFilter{Snap: tt.snap}, tt.ring); err == nil {
			tap.Close()
			t.Errorf("snap %d, ring %d: taken", tt.snap, tt.ring)
		}
	}
}
