// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"encoding/binary"
	"fmt"
)

// Multipliers of the 64-bit mixer "variant 13" by David Stafford and their inverses modulo 2^64. With the
// inverses, a word of the stream reveals its seed and position.
const (
	mixA    = 0xbf58476d1ce4e5b9
	mixB    = 0x94d049bb133111eb
	unmixA  = 0x96de1b173f119089
	unmixB  = 0x319642b2d24d8ec3
	spread  = 0x9e3779b97f4a7c15
	gather  = 0xf1de83e19937733d
	nonZero = 0x5eed
)

// streamBytes is the length after which a stream repeats: 2^32 words of eight bytes.
const streamBytes = 1 << 35

// wordAt is word number k of stream seed. Different (seed, k) give different
// words, because each step can be undone.
func wordAt(seed, k uint32) uint64 {
	z := (uint64(seed)<<32 | uint64(k)) + nonZero
	z *= spread
	z = (z ^ z>>30) * mixA
	z = (z ^ z>>27) * mixB
	return z ^ z>>31
}

// placeOf is the inverse of wordAt.
func placeOf(z uint64) (seed, k uint32) {
	z = z ^ z>>31 ^ z>>62
	z *= unmixB
	z = z ^ z>>27 ^ z>>54
	z *= unmixA
	z = z ^ z>>30 ^ z>>60
	z = z*gather - nonZero
	return uint32(z >> 32), uint32(z)
}

// A Pattern is a position in an endless stream of bytes that depend on the
// stream's seed and on their offset. It repeats after 32 GiB.
//
// A Pattern is not safe for concurrent use.
type Pattern struct {
	seed uint32
	off  uint64
}

// NewPattern returns stream seed at offset 0.
func NewPattern(seed uint32) *Pattern { return &Pattern{seed: seed} }

// Offset is the number of bytes filled or checked so far.
func (p *Pattern) Offset() uint64 { return p.off }

// Seed is the stream's seed.
func (p *Pattern) Seed() uint32 { return p.seed }

// Fill writes the next len(b) bytes of the stream to b.
func (p *Pattern) Fill(b []byte) {
	for len(b) > 0 && p.off%8 != 0 {
		b[0] = p.next()
		b = b[1:]
	}
	k := uint32(p.off / 8)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, wordAt(p.seed, k))
		b = b[8:]
		k++
		p.off += 8
	}
	for i := range b {
		b[i] = p.next()
	}
}

// Check compares b with the next len(b) bytes of the stream. The first
// difference is returned as a *Mismatch; the position then stays before it.
func (p *Pattern) Check(b []byte) error {
	for len(b) > 0 && p.off%8 != 0 {
		if b[0] != p.at(p.off) {
			return p.mismatch(b)
		}
		p.off++
		b = b[1:]
	}
	k := uint32(p.off / 8)
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != wordAt(p.seed, k) {
			break
		}
		b = b[8:]
		k++
		p.off += 8
	}
	for len(b) > 0 {
		if b[0] != p.at(p.off) {
			return p.mismatch(b)
		}
		p.off++
		b = b[1:]
	}
	return nil
}

func (p *Pattern) next() byte {
	b := p.at(p.off)
	p.off++
	return b
}

func (p *Pattern) at(off uint64) byte {
	return byte(wordAt(p.seed, uint32(off/8)) >> (off % 8 * 8))
}

func (p *Pattern) mismatch(b []byte) *Mismatch {
	m := &Mismatch{Seed: p.seed, Offset: p.off, Got: b[0], Want: p.at(p.off)}
	m.OriginSeed, m.OriginOffset, m.Known = origin(b, p.seed)
	return m
}

// SeedOf returns the seed of the stream that begins with b. It returns false if b is shorter than eight bytes
// or not the beginning of any stream.
func SeedOf(b []byte) (seed uint32, ok bool) {
	if len(b) < 8 {
		return 0, false
	}
	seed, k := placeOf(binary.LittleEndian.Uint64(b))
	return seed, k == 0
}

// origin looks for the stream and the offset at which b occurs. Eight bytes always decode to something, so a
// stream other than the expected one is accepted only if the next eight bytes agree.
func origin(b []byte, expected uint32) (seed uint32, off uint64, ok bool) {
	for shift := 0; shift < 8 && len(b) >= shift+8; shift++ {
		seed, k := placeOf(binary.LittleEndian.Uint64(b[shift:]))
		place := uint64(k)*8 - uint64(shift)
		if place >= streamBytes {
			continue // begins before the stream begins
		}
		if seed == expected {
			return seed, place, true
		}
		if len(b) < shift+16 {
			continue
		}
		if s2, k2 := placeOf(binary.LittleEndian.Uint64(b[shift+8:])); s2 == seed && k2 == k+1 {
			return seed, place, true
		}
	}
	return 0, 0, false
}

// A Mismatch describes a byte that differs from the one that was sent at this position.
type Mismatch struct {
	Seed      uint32 // of the expected stream
	Offset    uint64 // of the first wrong byte
	Got, Want byte

	// The stream and offset to which the bytes at Offset do belong, if Known.
	OriginSeed   uint32
	OriginOffset uint64
	Known        bool
}

func (m *Mismatch) Error() string {
	s := fmt.Sprintf("byte %d of stream %d is %#02x instead of %#02x", m.Offset, m.Seed, m.Got, m.Want)
	switch {
	case !m.Known:
		return s + " (of no known stream)"
	case m.OriginSeed != m.Seed:
		return fmt.Sprintf("%s (it is byte %d of stream %d)", s, m.OriginOffset, m.OriginSeed)
	case m.OriginOffset > m.Offset:
		return fmt.Sprintf("%s (%d bytes are missing here)", s, m.OriginOffset-m.Offset)
	case m.OriginOffset == m.Offset:
		return s + " (those after it are right)"
	default:
		return fmt.Sprintf("%s (byte %d once more)", s, m.OriginOffset)
	}
}
