// SPDX-License-Identifier: Apache-2.0

package suite

import "unsafe"

// Memory whose address is passed to the kernel as a number must be on the heap, where it does not move, and
// alive until the run ends. keep ensures both: what is stored here escapes.

func keep[V any](t *T, v *V) uintptr {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, v)
	return uintptr(unsafe.Pointer(v))
}

// Keep returns the address of v, which stays valid until the run ends.
func Keep[V any](t *T, v *V) uintptr { return keep(t, v) }

// Buffer is memory of n bytes whose address the kernel can get.
func (t *T) Buffer(n int) []byte {
	b := make([]byte, max(n, 1))
	keep(t, &b[0])
	return b[:n]
}

// Address is the address of b, which a Buffer returned.
func Address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// held is the address of b's bytes, which may come from anywhere.
func (t *T) held(b []byte) uintptr {
	if len(b) == 0 {
		return 0
	}
	return keep(t, &b[0])
}

// ptr converts an address from keep to a pointer.
func ptr(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

// bytesAt is the memory at p. It belongs to the caller.
func bytesAt(p *byte, n int) []byte { return unsafe.Slice(p, n) }
