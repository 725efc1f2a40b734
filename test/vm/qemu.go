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

// processorFor is the x86 processor that a kernel gets. With care it has no cmpxchg16b, but where the kernel cannot do without:
// since 7.0 BPF's storage of a socket comes from kmalloc_nolock, which gives nothing on such a processor. No socket would
// be taken then, and every probe would find a sound kernel.
func (q qemu) processorFor(version string) string {
	var major int
	if _, err := fmt.Sscanf(version, "%d.", &major); q.careful && (err != nil || major < 7) {
		return q.processor + ",-cx16"
	}
	return q.processor
}

// soundSince is the first QEMU whose emulation needs no care. In those before it,
//
//   - a processor in a thread of its own may still run code that another one has just patched. Guards patch the kernel's
//     code: it dies of "Oops: int3", or hangs. QEMU 8.1 brought the cure ("accel/tcg: Always lock pages before
//     translation"), later ones the corrections of the cure;
//   - cmpxchg16b leaves flags that were never set, before QEMU 8.0. The kernel's allocator uses it all the time, and dies
//     of a double fault when an interrupt saves the flags at that moment.
//
// Neither is the kernel's fault, but both look like it.
const soundSince = 9

// countingUse is for clocks that count instructions: those of a processor with all that kernels use, for which what
// soundSince says of cmpxchg16b is risked. Only one processor at a time can be counted.
//
// The emulation counts an instruction for each byte that "rep movsb" copies, as if copying were all that a kernel does. Without
// these features kernels copy 8 bytes by an instruction, which is nearer to what copying costs.
var countingUse = qemu{"tcg,thread=single", "max,-erms,-fsrm", false}

// findQEMU asks an installed emulator for its version and says how to use it.
func findQEMU(ctx context.Context, emulator string) (qemu, error) {
	out, err := exec.CommandContext(ctx, emulator, "--version").Output()
	if err != nil {
		return qemu{}, fmt.Errorf("ask %s for its version: %w", emulator, err)
	}
	return useOf(string(out)), nil
}

func useOf(version string) qemu {
	var major int
	if _, err := fmt.Sscanf(version, "QEMU emulator version %d.", &major); err != nil || major < soundSince {
		// Processors take turns, which costs little where guests fill all cores; and kernels do without the instruction
		// where a processor does not have it.
		return qemu{"tcg,thread=single", "max", true}
	}
	return qemu{"tcg,thread=multi", "max", false}
}
