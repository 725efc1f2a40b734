// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

// arch is an architecture that QEMU emulates.
type arch struct {
	name     string // name in Debian and Go
	emulator string
	// machine are QEMU's arguments for the board. Its first serial line is the kernel's console. Results come
	// over frame.ResultPort.
	machine []string
	// results is QEMU's argument that connects the chardev "results" to frame.ResultPort.
	results []string
	// features are the CPU features that an emulated processor of the kind "max" must not have.
	features string
	// parameters of the kernel: its console, and what the emulation makes necessary.
	parameters []string
}

var archs = []arch{
	{
		name: "amd64", emulator: "qemu-system-x86_64", machine: []string{"q35"},
		results: []string{"-serial", "chardev:results"},
		// Emulated timer interrupts come late on a busy host, and the kernel's check of them at boot panics.
		parameters: []string{"console=ttyS0", "no_timer_check"},
	},
	{
		// The board has one serial line, so a second one is plugged in. Signing each pointer, as a processor
		// of the kind max does, costs half of the emulation's time, and kernels do not use larger vectors.
		name: "arm64", emulator: "qemu-system-aarch64", machine: []string{"virt,gic-version=3"},
		results:    []string{"-device", "pci-serial,chardev=results"},
		features:   ",pauth=off,sve=off",
		parameters: []string{"console=ttyAMA0"},
	},
}

func archOf(name string) (arch, error) {
	for _, a := range archs {
		if a.name == name && frame.ResultPort(name) != "" {
			return a, nil
		}
	}
	return arch{}, fmt.Errorf("find an emulator for %s: none is known", name)
}
