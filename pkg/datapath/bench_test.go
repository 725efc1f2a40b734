// SPDX-License-Identifier: Apache-2.0

package datapath

import "testing"

// The time of the first ADD after a boot.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := newStateDir(b)
		b.StartTimer()
		d, err := Load(dir, defaults)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		d.Close()
		if err := Unload(dir, false); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// The time of each later ADD.
func BenchmarkOpen(b *testing.B) {
	dir := load(b, defaults).Dir()
	for b.Loop() {
		d, err := Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
}
