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

// Machine describes where a run took place.
type Machine struct {
	Kernel     string        `json:"kernel"`
	CPU        string        `json:"cpu"`
	CPUs       int           `json:"cpus"`
	MemoryMiB  int           `json:"memory_mib"`
	Guards     []string      `json:"guards"`                  // guards that ran
	PageTables string        `json:"page_tables,omitempty"`   // as HardwarePageTables; empty: unknown
	Fault      time.Duration `json:"page_fault_ns,omitempty"` // the first access to a page, which shows it
}

// ThisMachine describes the machine on which this program runs.
func ThisMachine(guards []string) (m Machine, err error) {
	var name unix.Utsname
	var info unix.Sysinfo_t
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("read the kernel's release: %w", err)
	}
	if err := unix.Sysinfo(&info); err != nil {
		return m, fmt.Errorf("read the size of the memory: %w", err)
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
		CPU:        cmp.Or(field(string(cpus), "model name"), runtime.GOARCH), // or no name
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

// Kind is the name under which results are kept: machines of one kind have about the same results. A new run
// replaces the old one of its kind.
func (m Machine) Kind() string {
	words := []string{m.shortCPU(), m.pageTables(), m.release(),
		cmp.Or(strings.Join(m.Guards, "+"), "no-guards")}
	return strings.Trim(between.ReplaceAllString(strings.ToLower(strings.Join(words, " ")), "-"), "-")
}

// Title is the kind for people.
func (m Machine) Title() string {
	return fmt.Sprintf("%s, %s page tables, Linux %s, guards: %s",
		m.shortCPU(), m.pageTables(), m.release(), cmp.Or(strings.Join(m.Guards, ", "), "none"))
}

func (m Machine) shortCPU() string {
	return strings.Join(strings.Fields(noise.ReplaceAllString(m.CPU, " ")), " ")
}

func (m Machine) pageTables() string { return cmp.Or(m.PageTables, UnknownPageTables) }

// release is the kernel's release without the part that its builder added.
func (m Machine) release() string {
	version, _, _ := strings.Cut(m.Kernel, "-")
	return version
}
