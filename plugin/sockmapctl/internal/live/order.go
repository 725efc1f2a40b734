// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// Order has the keys by which --sort-by sorts a list of T.
type Order[T any] struct {
	// Usual compares without a key. Items that are equal by a key are in this order, too.
	Usual func(a, b *T) int
	// Keys compare by one field each. A nil one sorts by Usual alone.
	Keys map[string]func(a, b *T) int
}

// Names are the keys in the order of the alphabet.
func (o Order[T]) Names() []string { return slices.Sorted(maps.Keys(o.Keys)) }

// Check returns an error that lists the keys if key is none of them.
func (o Order[T]) Check(key string) error {
	if _, ok := o.Keys[key]; !ok {
		return fmt.Errorf("--sort-by: %q is not %s", key, term.OrList(o.Names()))
	}
	return nil
}

// Sort sorts in place. Check has accepted key.
func (o Order[T]) Sort(items []T, key string) {
	by := o.Keys[key]
	slices.SortFunc(items, func(a, b T) int {
		if by != nil {
			if c := by(&a, &b); c != 0 {
				return c
			}
		}
		return o.Usual(&a, &b)
	})
}

// Most compares numbers: the largest is first.
func Most[T any, N cmp.Ordered](of func(*T) N) func(a, b *T) int {
	return func(a, b *T) int { return cmp.Compare(of(b), of(a)) }
}

// ByText compares texts by the alphabet.
func ByText[T any](of func(*T) string) func(a, b *T) int {
	return func(a, b *T) int { return cmp.Compare(of(a), of(b)) }
}
