// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
)

const (
	limitedFlows = 20
	limitedBytes = 1 << 20  // twenty first windows are more, but not in messages of 100 bytes
	mostBytes    = 16 << 20 // of one flow: something must hold it back before
)

// legacyGroup makes a cgroup of version 1 that may have this much socket memory.
func legacyGroup(t testing.TB, limit int) *memoryGroup {
	t.Helper()
	const mount = "/sys/fs/cgroup/memory"
	home, err := legacyHome("memory")
	if _, statErr := os.Stat(mount + "/memory.kmem.tcp.limit_in_bytes"); err != nil || statErr != nil {
		t.Skipf("no memory cgroups of version 1 here: %v, %v", err, statErr)
	}
	dir, err := os.MkdirTemp(mount, "sockmap-memory-")
	if err != nil {
		t.Fatal(err)
	}
	removeLater(t, dir)
	putFile(t, dir+"/memory.kmem.tcp.limit_in_bytes", strconv.Itoa(limit))
	return &memoryGroup{dir: dir, home: mount + home, v1: true, usage: "memory.kmem.tcp.usage_in_bytes"}
}

// A reader's cgroup that may have no more socket memory stops its senders as it does over TCP: they wait, and
// no byte is lost. When there is memory again, what comes next is redirected again.
func TestReaderAtItsMemoryLimitHoldsSendersBack(t *testing.T) {
	limitCases(t, []int{100, 4 << 10, 64 << 10, 512 << 10},
		func(t *testing.T) *memoryGroup { return legacyGroup(t, limitedBytes) }, nil)
}

// limitCases are sizes of messages and both kinds of send, to readers of a group that place makes. check is
// asked while all senders are held back and nobody has read.
func limitCases(t *testing.T, sizes []int, place func(t *testing.T) *memoryGroup, check func(t *testing.T)) {
	d, g := load(t, bounded(1024, 8<<20, 4096)), newGroup(t)
	g.attach(t, d)
	for _, waits := range []bool{false, true} {
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%d bytes, waits %v", size, waits), func(t *testing.T) {
				m, before := place(t), fellBack(t, d, ReasonMemory)
				f := newFlood(t, g, m, limitedFlows, waits)
				defer f.close()
				m.limitNow()
				if err := f.all(func(s *rawSender, _ *net.TCPConn) error {
					return s.untilHeld(size, mostBytes)
				}); err != nil {
					t.Fatal(err)
				}
				if check != nil {
					check(t)
				}
				if n := fellBack(t, d, ReasonMemory); n == before && size > 100 {
					t.Error("no flow fell back because of memory")
				}
				if err := f.drain(); err != nil {
					t.Fatal(err)
				}
				redirectsAgain(t, d, f)
			})
		}
	}
}

func redirectsAgain(t *testing.T, d *Datapath, f *flood) {
	t.Helper()
	s, c := f.senders[0], f.readers[0]
	before, _ := flowOf(t, d, mirror{c})
	eventually(t, "it is redirected again", func() bool {
		from := s.sent
		if err := s.send(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := s.reading(c, from, s.sent); err != nil {
			t.Fatal(err)
		}
		now, _ := flowOf(t, d, mirror{c})
		return now.RedirectedMessages > before.RedirectedMessages
	})
}

// mirror is the other end of a connection, as far as its addresses go.
type mirror struct{ net.Conn }

func (m mirror) LocalAddr() net.Addr  { return m.Conn.RemoteAddr() }
func (m mirror) RemoteAddr() net.Addr { return m.Conn.LocalAddr() }

// Many senders check one limit at once, and each message may use up the rest of it. A sender that loses its
// CPU between the check and the charge may still be refused (docs/TRANSPARENCY.md). That is rare, so the
// bound here is a few.
func TestManySendersToOneMemoryLimitSeeHardlyAnError(t *testing.T) {
	mixedCases(t, func(t *testing.T, limit int) *memoryGroup { return legacyGroup(t, limit) })
}

func mixedCases(t *testing.T, place func(t *testing.T, limit int) *memoryGroup) {
	for _, tt := range []struct {
		name           string
		flows, limit   int
		sends, inGuest int // of each flow; emulation is some forty times slower
		sizes          []int
	}{
		{"many sizes", 8, limitedBytes, 2600, 250, []int{100, 4 << 10, 16 << 10, 100, 32 << 10, 1, 4 << 10}},
		{"4 KiB, a small limit", 16, 512 << 10, 1300, 150, []int{4 << 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each := tt.sends
			if inGuest() {
				each = tt.inGuest
			}
			m := place(t, tt.limit)
			d, g := load(t, bounded(1024, 8<<20, 4096)), newGroup(t)
			g.attach(t, d)
			f := newFlood(t, g, m, tt.flows, false)
			m.limitNow()
			sends, refused, err := f.mixed(each, tt.sizes)
			if err != nil {
				t.Error(err)
			}
			if most := 1 + sends/10_000; refused > most {
				t.Errorf("%d of %d sends failed for want of memory, want at most %d", refused, sends, most)
			}
			var redirected, tcp uint64
			for _, c := range f.readers {
				flow, _ := flowOf(t, d, mirror{c})
				redirected += flow.RedirectedMessages
				tcp += flow.TCPMessages
			}
			t.Logf("%d sends, %d of them refused; %d redirected, %d over TCP; fallbacks for memory: %d", sends,
				refused, redirected, tcp, fellBack(t, d, ReasonMemory))
			if redirected == 0 {
				t.Error("nothing was redirected")
			}
			if fellBack(t, d, ReasonMemory) == 0 {
				t.Error("no flow fell back because of memory")
			}
		})
	}
}
