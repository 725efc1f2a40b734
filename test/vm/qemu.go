// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
)

// qemu is how the emulator is used.
type qemu struct {
	accel     string // -accel
	processor string // -cpu
	careful   bool   // see soundSince
}

// processorOf is the processor that a kernel of an architecture gets.
func (q qemu) processorOf(a arch, version string) string {
	if a.name != "amd64" {
		return "max" + a.features
	}
	return q.processorFor(version)
}

// processorFor is the x86 processor that a kernel gets. With care it has no cmpxchg16b, except where the
// kernel needs that: since 7.0, BPF's socket storage comes from kmalloc_nolock, which always fails on such a
// processor. No socket would be accelerated then, and no probe would find a hazard.
func (q qemu) processorFor(version string) string {
	var major int
	if _, err := fmt.Sscanf(version, "%d.", &major); q.careful && (err != nil || major < 7) {
		return q.processor + ",-cx16"
	}
	return q.processor
}

// soundSince is the first QEMU whose emulation needs no care. In earlier versions,
//
//   - a processor in a thread of its own may still run code that another has just patched. Guards patch the
//
// kernel's code, and it dies of "Oops: int3", or hangs. QEMU 8.1 has the fix ("accel/tcg: Always lock pages
//
//	  before translation"), later versions the corrections of that fix;
//	- cmpxchg16b leaves the flags undefined, before QEMU 8.0. The kernel's allocator uses it often, and dies
//	  of a double fault when an interrupt saves the flags at that moment.
//
// Neither is the kernel's fault, but both look like it.
const soundSince = 9

// countingUse is the use of QEMU for clocks that count instructions. The processor has all features that
// kernels use, so the fault of cmpxchg16b that soundSince describes is risked. Only one processor can be
// counted.
//
// The emulation counts an instruction for each byte that "rep movsb" copies, which would make copying
// dominate the result. Without these features kernels copy 8 bytes by one instruction, which is nearer to the
// cost of copying.
var countingUse = qemu{"tcg,thread=single", "max,-erms,-fsrm", false}

// findQEMU reads the version of an installed emulator and decides how to use it.
func findQEMU(ctx context.Context, emulator string) (qemu, error) {
	out, err := exec.CommandContext(ctx, emulator, "--version").Output()
	if err != nil {
		return qemu{}, fmt.Errorf("read the version of %s: %w", emulator, err)
	}
	return useOf(string(out)), nil
}

func useOf(version string) qemu {
	var major int
	if _, err := fmt.Sscanf(version, "QEMU emulator version %d.", &major); err != nil || major < soundSince {
		// Processors take turns, which costs little where guests fill all cores. Kernels avoid the
		// instruction where a processor does not have it.
		return qemu{"tcg,thread=single", "max", true}
	}
	return qemu{"tcg,thread=multi", "max", false}
}
