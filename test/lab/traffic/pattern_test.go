// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// stream returns n bytes of stream seed from offset off.
func stream(seed uint32, off uint64, n int) []byte {
	b := make([]byte, n)
	p := &Pattern{seed: seed, off: off}
	p.Fill(b)
	return b
}

func TestFillDoesNotDependOnTheSizeOfItsParts(t *testing.T) {
	want := stream(7, 0, 10_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		got := make([]byte, len(want))
		fill, check := NewPattern(7), NewPattern(7)
		for i := 0; i < len(got); {
			n := min(1+rng.IntN(40), len(got)-i)
			fill.Fill(got[i : i+n])
			if err := check.Check(got[i : i+n]); err != nil {
				t.Fatal(err)
			}
			i += n
		}
		if !bytes.Equal(got, want) {
			t.Fatal("bytes differ from those of one call")
		}
		if fill.Offset() != uint64(len(got)) || check.Offset() != uint64(len(got)) {
			t.Fatalf("offsets %d and %d after %d bytes", fill.Offset(), check.Offset(), len(got))
		}
	}
}

func TestSeedAndPositionOfAWordAreRecovered(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		seed, k := rng.Uint32(), rng.Uint32()
		if s, n := placeOf(wordAt(seed, k)); s != seed || n != k {
			t.Fatalf("word %d of stream %d is traced to word %d of stream %d", k, seed, n, s)
		}
	}
}

func TestSeedOfRecognisesBeginningsOnly(t *testing.T) {
	if seed, ok := SeedOf(stream(42, 0, 8)); !ok || seed != 42 {
		t.Errorf("SeedOf(beginning) = %d, %v", seed, ok)
	}
	if _, ok := SeedOf(stream(42, 8, 8)); ok {
		t.Error("SeedOf(middle) is true")
	}
	if _, ok := SeedOf(stream(42, 0, 7)); ok {
		t.Error("SeedOf(7 bytes) is true")
	}
}

func TestCheckNamesTheFirstWrongByteAndItsOrigin(t *testing.T) {
	const seed, n = 7, 400
	whole := stream(seed, 0, n)
	cases := []struct {
		name string
		sent []byte
		// The offset is that of the damage, or a little later if the wrong byte happens to have the right
		// value.
		offset uint64
		origin int64 // relative to the offset
		stream uint32
	}{
		{"lost byte", append(bytes.Clone(whole[:101]), whole[102:]...), 101, +1, seed},
		{"lost block", append(bytes.Clone(whole[:100]), whole[164:]...), 100, +64, seed},
		{"repeated byte", append(bytes.Clone(whole[:101]), whole[100:]...), 101, -1, seed},
		{"repeated block", append(bytes.Clone(whole[:128]), whole[64:]...), 128, -64, seed},
		{"flipped bit", func() []byte { b := bytes.Clone(whole); b[55] ^= 1; return b }(), 55, 0, seed},
		{"other stream", append(bytes.Clone(whole[:64]), stream(9, 0, 64)...), 64, -64, 9},
		{"first byte", stream(seed, 1, 64), 0, +1, seed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var m *Mismatch
			if err := NewPattern(seed).Check(c.sent); !errors.As(err, &m) {
				t.Fatalf("Check() = %v, want a *Mismatch", err)
			}
			want := &Mismatch{
				Seed: seed, Offset: m.Offset, Got: c.sent[m.Offset], Want: whole[m.Offset],
				Known: true, OriginSeed: c.stream, OriginOffset: uint64(int64(m.Offset) + c.origin),
			}
			if diff := cmp.Diff(want, m); diff != "" {
				t.Errorf("%v (-want +got):\n%s", m, diff)
			}
			if m.Offset < c.offset || m.Offset > c.offset+2 {
				t.Errorf("damage at %d reported at %d", c.offset, m.Offset)
			}
		})
	}
}

func TestCheckAdmitsThatItDoesNotKnowTheOrigin(t *testing.T) {
	for name, sent := range map[string][]byte{
		"one byte":     {stream(7, 0, 1)[0] ^ 1},
		"foreign text": []byte("HTTP/1.1 200 OK, and quite some more text"),
	} {
		var m *Mismatch
		if err := NewPattern(7).Check(sent); !errors.As(err, &m) || m.Known {
			t.Errorf("%s: Check() = %v, want a *Mismatch of unknown origin", name, err)
		}
	}
}

func BenchmarkFill(b *testing.B)  { benchmark(b, (*Pattern).Fill) }
func BenchmarkCheck(b *testing.B) { benchmark(b, func(p *Pattern, buf []byte) { _ = p.Check(buf) }) }

func benchmark(b *testing.B, f func(*Pattern, []byte)) {
	buf := stream(1, 0, 64<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		f(NewPattern(1), buf)
	}
}
