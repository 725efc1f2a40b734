// SPDX-License-Identifier: Apache-2.0

package cases

import "math/rand/v2"

// pattern is n bytes that depend on the seed and on each position, so that a swapped, missing or repeated
// byte is noticed.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = src.Read(b)
	return b
}
