// SPDX-License-Identifier: Apache-2.0

package result

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Who walks the page tables. If a hypervisor keeps copies of them (shadows) without help of the CPU, page
// faults, system calls and process switches are expensive, and all ratios differ from those where the CPU
// walks the tables.
const (
	HardwarePageTables = "hardware"
	ShadowedPageTables = "shadowed"
	UnknownPageTables  = "unknown"
)

// The first access to a page takes 0.1 to 1 µs if the CPU walks the page tables, in a virtual machine, too.
// With shadow page tables each is an exit to the hypervisor: 18 µs on the one that was measured (PVM). Times
// in between are not judged.
const (
	hardwareFault = 3 * time.Microsecond
	shadowedFault = 6 * time.Microsecond
)

func judgePageTables(cpuinfo string, fault time.Duration) string {
	switch {
	case fault >= shadowedFault && !onBareMetal(cpuinfo):
		return ShadowedPageTables
	case fault > 0 && fault <= hardwareFault:
		return HardwarePageTables
	}
	return UnknownPageTables
}

// onBareMetal works for x86 only: other architectures list no flag of a hypervisor.
func onBareMetal(cpuinfo string) bool {
	flags := field(cpuinfo, "flags")
	return flags != "" && !slices.Contains(strings.Fields(flags), "hypervisor")
}

// faultTime is the time of the first access to a page, from the least disturbed pass.
func faultTime() (least time.Duration, err error) {
	const pages, size, passes = 256, 4096, 12
	b, err := unix.Mmap(-1, 0, pages*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, fmt.Errorf("map memory: %w", err)
	}
	defer unix.Munmap(b)
	// a kernel without huge pages
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
		return 0, fmt.Errorf("turn huge pages off: %w", err)
	}
	for pass := range passes {
		begin := time.Now()
		for i := 0; i < len(b); i += size {
			b[i] = 1
		}
		if took := time.Since(begin) / pages; pass == 0 || took < least {
			least = took
		}
		if err := unix.Madvise(b, unix.MADV_DONTNEED); err != nil {
			return 0, fmt.Errorf("give memory back: %w", err)
		}
	}
	return least, nil
}
