// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"
)

// The time that a runtime waits: from exec to exit. VERSION is the cost of a process that does nothing.
func BenchmarkExec(b *testing.B) {
	w := newWorld(b)
	p := w.pod()
	w.mustAdd(p, nil)
	b.Run("VERSION", func(b *testing.B) {
		for b.Loop() {
			mustRun(b, env("VERSION", nil), nil)
		}
	})
	for _, verb := range []string{"ADD", "CHECK"} {
		b.Run(verb, func(b *testing.B) {
			stdin := w.conf(p, keys{"logLevel": "error", "required": true})
			for b.Loop() {
				mustRun(b, env(verb, p), stdin)
			}
		})
	}
	for _, neighbours := range []int{0, 100} {
		for range neighbours {
			w.mustAdd(w.pod(), nil)
		}
		b.Run(fmt.Sprintf("ADD and DEL among %d", neighbours), func(b *testing.B) {
			stdin := w.conf(p, keys{"logLevel": "error", "required": true})
			for b.Loop() {
				mustRun(b, env("ADD", p), stdin)
				mustRun(b, env("DEL", p), stdin)
			}
		})
	}
}

func BenchmarkExecFirstAdd(b *testing.B) {
	w := newWorld(b)
	p := w.pod()
	stdin := w.conf(p, keys{"logLevel": "error", "required": true})
	for b.Loop() {
		mustRun(b, env("ADD", p), stdin)
		b.StopTimer()
		w.unload()
		b.StartTimer()
	}
}

func mustRun(b *testing.B, env []string, stdin []byte) {
	b.Helper()
	if a := run(b, env, stdin); a.err != nil {
		b.Fatal(a.err)
	}
}
