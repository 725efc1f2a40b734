// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// Bounds of what a tap can be asked for.
const (
	TapSnapMax = uint32(bpf.SockmapTapSizeTAP_SNAP_MAX) // bytes: as large as a message can be
	TapRingMin = 64 << 10                               // bytes
	TapRingMax = 1 << 30
	// TapLease is how long the verdict continues to copy without Renew.
	TapLease = 3 * time.Second
)

// ErrTapped: another tap listens, and there is one at a time.
var ErrTapped = errors.New("another tap is running")

// TapFilter selects the messages that the verdict copies.
type TapFilter struct {
	NetNSCookie uint64 // of either end; 0: any
	Port        uint16 // of the passive end; 0: any
	WithTCP     bool   // messages over TCP, too
	Snap        uint32 // bytes of each message at most, from 1 to TapSnapMax
}

// TapDrops counts messages, and their bytes, that did not fit into the ring. A message counts if any part of
// it is missing.
type TapDrops struct{ Messages, Bytes uint64 }

// TapChunk is a part of one message that a socket has sent. The parts of a message come in order and follow
// one another directly in their stream, but parts of other sockets' messages may come in between.
type TapChunk struct {
	Time            time.Duration // CLOCK_MONOTONIC, of the message
	Sender          EndKey
	Role            Role // of the sender
	NetNSCookie     uint64
	PeerNetNSCookie uint64 // 0: not known yet
	Redirected      bool   // false: over TCP
	Seq             uint32 // TCP sequence number of the message's first byte
	MessageBytes    uint32 // of the whole message
	Offset          uint32 // of Data in it
	Data            []byte // valid until the next Read
	Active          netip.AddrPort
	Passive         netip.AddrPort // both as the passive end sees them
}

// Tap is a copy of messages as they are sent. Renew, Close and Drops may be called while another goroutine is
// in Read.
type Tap struct {
	d      *Datapath
	ring   *ebpf.Map
	id     ebpf.MapID
	reader *ringbuf.Reader
	filter bpf.SockmapTapFilter
	record ringbuf.Record
	before TapDrops
}

// OpenTap makes a ring of at least ringBytes and lets the verdict fill it for TapLease. d must not be used
// otherwise until the tap is closed. The caller holds the lock. It returns ErrTapped if another tap is alive.
func OpenTap(d *Datapath, f TapFilter, ringBytes int) (t *Tap, err error) {
	if err := f.check(ringBytes); err != nil {
		return nil, err
	}
	cfg, err := d.config()
	if err != nil {
		return nil, err
	}
	if left := tapLeft(&cfg); left > 0 {
		return nil, fmt.Errorf("%w (there is one at a time; one that was killed is forgotten in %v)", ErrTapped,
			left.Round(100*time.Millisecond))
	}
	t = &Tap{d: d}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if t.before, err = t.drops(); err != nil {
		return nil, err
	}
	if err := t.makeRing(ringBytes); err != nil {
		return nil, err
	}
	return t, t.write(f)
}

// tapLeft is how long the verdict still copies for the tap that listens; 0: no tap listens.
func tapLeft(c *bpf.SockmapConfig) time.Duration {
	if c.Tap.SnapBytes == 0 {
		return 0
	}
	return max(0, time.Duration(int64(c.TapUntilNs)-monotonic()))
}

func (f TapFilter) check(ringBytes int) error {
	switch {
	case f.Snap < 1 || f.Snap > TapSnapMax:
		return fmt.Errorf("tap: a snap length of %d is not from 1 to %d", f.Snap, TapSnapMax)
	case ringBytes < TapRingMin || ringBytes > TapRingMax:
		return fmt.Errorf("tap: a ring of %d bytes is not from %d to %d", ringBytes, TapRingMin, TapRingMax)
	}
	return nil
}

// makeRing makes a ring and puts it into the map tap_ring.
func (t *Tap) makeRing(bytes int) (err error) {
	size := ringBytes(bytes, os.Getpagesize())
	t.ring, err = ebpf.NewMap(&ebpf.MapSpec{Name: "tap", Type: ebpf.RingBuf, MaxEntries: size})
	if err != nil {
		return fmt.Errorf("make a ring of %d bytes: %w", size, err)
	}
	info, err := t.ring.Info()
	if err != nil {
		return fmt.Errorf("ask for the ring's id: %w", err)
	}
	var ok bool
	if t.id, ok = info.ID(); !ok {
		return errors.New("the ring has no id")
	}
	if t.reader, err = ringbuf.NewReader(t.ring); err != nil {
		return fmt.Errorf("read ring: %w", err)
	}
	slot, err := t.d.mapOf(bpf.SockmapMapTapRing, 4)
	if err != nil {
		return err
	}
	if err := slot.Put(uint32(0), t.ring); err != nil {
		return fmt.Errorf("hand the ring to the verdict: %w", err)
	}
	return nil
}

// Renew lets the verdict continue for TapLease from now, perhaps with another filter. The caller holds the
// lock, and calls it once a second. It returns ErrTapped if the lease had ended and another tap has begun.
func (t *Tap) Renew(f TapFilter) error {
	if err := f.check(TapRingMin); err != nil {
		return err
	}
	if own, err := t.own(); err != nil {
		return err
	} else if !own {
		return fmt.Errorf("%w: this one had not been renewed in time", ErrTapped)
	}
	return t.write(f)
}

// own reports whether the verdict still uses this ring.
func (t *Tap) own() (bool, error) {
	slot, err := t.d.mapOf(bpf.SockmapMapTapRing, 4)
	if err != nil {
		return false, err
	}
	var id ebpf.MapID
	if err := slot.Lookup(uint32(0), &id); errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("ask for the verdict's ring: %w", err)
	}
	return id == t.id, nil
}

func (t *Tap) write(f TapFilter) error {
	t.filter = bpf.SockmapTapFilter{Netns: f.NetNSCookie, Port: f.Port, SnapBytes: f.Snap}
	if f.WithTCP {
		t.filter.WithTcp = 1
	}
	return t.d.update(func(c *bpf.SockmapConfig) {
		c.Tap, c.TapUntilNs = t.filter, uint64(monotonic()+int64(TapLease))
	})
}

// Stop makes the verdict stop copying. What is in the ring can still be read. The caller holds the lock.
func (t *Tap) Stop() error {
	if own, err := t.own(); err != nil || !own {
		return err
	}
	return t.d.update(func(c *bpf.SockmapConfig) { c.Tap, c.TapUntilNs = bpf.SockmapTapFilter{}, 0 })
}

// Close removes everything that OpenTap has made. It does not close the Datapath. The caller holds the lock.
func (t *Tap) Close() error {
	own, err := t.own()
	if err == nil && own {
		err = t.Stop()
		// The verdict may be writing: the ring exists until it is done.
		if slot, mapErr := t.d.mapOf(bpf.SockmapMapTapRing, 4); mapErr == nil {
			err = errors.Join(err, slot.Delete(uint32(0)))
		}
	}
	return errors.Join(err, t.release())
}

func (t *Tap) release() error {
	var errs []error
	if t.reader != nil {
		errs = append(errs, t.reader.Close())
	}
	if t.ring != nil {
		errs = append(errs, t.ring.Close())
	}
	return errors.Join(errs...)
}

// Read waits for the next chunk until the deadline. It returns os.ErrDeadlineExceeded after it, and
// os.ErrClosed when the tap is closed.
func (t *Tap) Read(c *TapChunk, deadline time.Time) error {
	if err := t.next(deadline); err != nil {
		return err
	}
	var rec bpf.SockmapTapRecord
	raw := t.record.RawSample
	n, err := binary.Decode(raw, binary.NativeEndian, &rec)
	if err != nil {
		return fmt.Errorf("decode a tap's record of %d bytes: %w", len(raw), err)
	}
	if int(rec.CapturedBytes) > len(raw)-n {
		return fmt.Errorf("a tap's record of %d bytes says that it has %d", len(raw)-n, rec.CapturedBytes)
	}
	*c = decodeChunk(&rec)
	c.Data = raw[n : n+int(rec.CapturedBytes)]
	return nil
}

// lookEvery is how long a record may wait in the ring. Its writer does not wake the reader unless there is
// much to read.
const lookEvery = 5 * time.Millisecond

func (t *Tap) next(deadline time.Time) error {
	for {
		look := time.Now().Add(lookEvery)
		last := !look.Before(deadline)
		if last {
			look = deadline
		}
		t.reader.SetDeadline(look)
		if err := t.reader.ReadInto(&t.record); last || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

func decodeChunk(r *bpf.SockmapTapRecord) TapChunk {
	return TapChunk{
		Time:            time.Duration(r.TimeNs),
		Sender:          EndKey{r.Self.Own, r.Self.Peer},
		Role:            Role(r.Role),
		NetNSCookie:     r.Netns,
		PeerNetNSCookie: r.PeerNetns,
		Redirected:      r.Redirected != 0,
		Seq:             r.Seq,
		MessageBytes:    r.MessageBytes,
		Offset:          r.Offset,
		Active:          addrPort(r.Family, r.ActiveAddr, r.ActivePort),
		Passive:         addrPort(r.Family, r.PassiveAddr, r.PassivePort),
	}
}

// Drops returns what has been dropped since the tap was opened.
func (t *Tap) Drops() (TapDrops, error) {
	now, err := t.drops()
	if err != nil {
		return TapDrops{}, err
	}
	return TapDrops{now.Messages - t.before.Messages, now.Bytes - t.before.Bytes}, nil
}

func (t *Tap) drops() (sum TapDrops, err error) {
	m, err := t.d.mapOf(bpf.SockmapMapTapDrops, unsafe.Sizeof(bpf.SockmapTapDrops{}))
	if err != nil {
		return sum, err
	}
	var perCPU []bpf.SockmapTapDrops
	if err := m.Lookup(uint32(0), &perCPU); err != nil {
		return sum, fmt.Errorf("read drops of the tap: %w", err)
	}
	for _, drops := range perCPU {
		sum.Messages += drops.Messages
		sum.Bytes += drops.Bytes
	}
	return sum, nil
}

// monotonic is the clock of the verdict.
func monotonic() int64 {
	var ts unix.Timespec
	// It cannot fail for a clock that exists since 2.6.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// MonotonicZero is the time of day at which CLOCK_MONOTONIC was zero, as the clocks are now.
func MonotonicZero() time.Time { return time.Now().Add(-time.Duration(monotonic())).Round(0) }
