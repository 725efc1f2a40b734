// SPDX-License-Identifier: Apache-2.0

package result

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is where it ran.
type Machine struct {
	Kernel     string        `json:"kernel"`
	CPU        string        `json:"cpu"`
	CPUs       int           `json:"cpus"`
	MemoryMiB  int           `json:"memory_mib"`
	Guards     []string      `json:"guards"`                  // that ran
	PageTables string        `json:"page_tables,omitempty"`   // HardwarePageTables and its like; empty: nobody asked
	Fault      time.Duration `json:"page_fault_ns,omitempty"` // the first touch of a page, which tells
}

// ThisMachine is where this program runs.
func ThisMachine(guards []string) (m Machine, err error) {
	var name unix.Utsname
	var info unix.Sysinfo_t
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("ask the kernel for its name: %w", err)
	}
	if err := unix.Sysinfo(&info); err != nil {
		return m, fmt.Errorf("ask the kernel for its memory: %w", err)
	}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	fault, err := faultTime()
	if err != nil {
		return m, err
	}
	return Machine{
		Kernel:     unix.ByteSliceToString(name.Release[:]),
		CPU:        cmp.Or(field(string(cpus), "model name"), runtime.GOARCH), // not every architecture tells
		CPUs:       runtime.NumCPU(),
		MemoryMiB:  int(uint64(info.Totalram) * uint64(info.Unit) >> 20),
		Guards:     guards,
		PageTables: judgePageTables(string(cpus), fault),
		Fault:      fault,
	}, nil
}

// field of the first CPU in /proc/cpuinfo.
func field(cpuinfo, name string) string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

var (
	noise   = regexp.MustCompile(`\((R|r|TM|tm)\)|\b(CPU|Processor)\b|@.*`)
	between = regexp.MustCompile(`[^a-z0-9.+]+`)
)

// Kind is what results are kept under: machines of one kind give about the same. A new run replaces that of
// its kind.
func (m Machine) Kind() string {
	words := []string{m.shortCPU(), m.pageTables(), m.release(), cmp.Or(strings.Join(m.Guards, "+"), "no-guards")}
	return strings.Trim(between.ReplaceAllString(strings.ToLower(strings.Join(words, " ")), "-"), "-")
}

// Title is the same for people.
func (m Machine) Title() string {
	return fmt.Sprintf("%s, %s page tables, Linux %s, guards: %s",
		m.shortCPU(), m.pageTables(), m.release(), cmp.Or(strings.Join(m.Guards, ", "), "none"))
}

func (m Machine) shortCPU() string {
	return strings.Join(strings.Fields(noise.ReplaceAllString(m.CPU, " ")), " ")
}

func (m Machine) pageTables() string { return cmp.Or(m.PageTables, UnknownPageTables) }

// release is the kernel's without what its builder added.
func (m Machine) release() string {
	version, _, _ := strings.Cut(m.Kernel, "-")
	return version
}
