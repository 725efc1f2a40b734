// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"testing"
)

// crowd adds containers that stay, each in its own cgroup.
func crowd(b *testing.B, n *Node, count int) {
	b.Helper()
	for i := range count {
		mustAdd(b, n, container(b, fmt.Sprintf("neighbour-%d", i)), in(newGroup(b)))
	}
}

func BenchmarkAddDel(b *testing.B) {
	for _, neighbours := range []int{0, 30, 200} {
		b.Run(fmt.Sprintf("neighbours=%d", neighbours), func(b *testing.B) {
			n, g, sb := newNode(b), newGroup(b), container(b, "one")
			crowd(b, n, neighbours)
			for b.Loop() {
				mustAdd(b, n, sb, in(g))
				mustDel(b, n, sb)
			}
		})
	}
}

// Half of this time is the ADD.
func BenchmarkAddAgain(b *testing.B) {
	n, g, sb := newNode(b), newGroup(b), container(b, "one")
	for b.Loop() {
		mustAdd(b, n, sb, in(g))
	}
}

func BenchmarkReap(b *testing.B) {
	n := newNode(b)
	crowd(b, n, 200)
	for b.Loop() {
		if _, err := n.Reap(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFirstLoad(b *testing.B) {
	n := newNode(b)
	for b.Loop() {
		if _, err := n.Load(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := n.Unload(b.Context(), false); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
