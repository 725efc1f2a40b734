// SPDX-License-Identifier: Apache-2.0

package result

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ThisMachine is where this program runs.
func ThisMachine(guards []string) (Machine, error) {
	var name unix.Utsname
	var info unix.Sysinfo_t
	if err := unix.Uname(&name); err != nil {
		return Machine{}, fmt.Errorf("ask the kernel for its name: %w", err)
	}
	if err := unix.Sysinfo(&info); err != nil {
		return Machine{}, fmt.Errorf("ask the kernel for its memory: %w", err)
	}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return Machine{}, err
	}
	return Machine{
		Kernel:    unix.ByteSliceToString(name.Release[:]),
		CPU:       model(string(cpus)),
		CPUs:      runtime.NumCPU(),
		MemoryMiB: int(uint64(info.Totalram) * uint64(info.Unit) >> 20),
		Guards:    guards,
	}, nil
}

// model of the first CPU; not every architecture tells.
func model(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
