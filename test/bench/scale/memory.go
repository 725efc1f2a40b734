// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memory has the kernel's memory in bytes: sockets and their objects are in its slabs; maps are there, per
// CPU, or in its virtual memory.
type memory struct{ slab, percpu, vmalloc, available float64 }

func (m memory) sum() float64 { return m.slab + m.percpu + m.vmalloc }

func readMemory() (m memory, err error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, err
	}
	return parseMemory(string(b))
}

func parseMemory(text string) (m memory, err error) {
	want := map[string]*float64{"Slab": &m.slab, "Percpu": &m.percpu, "VmallocUsed": &m.vmalloc,
		"MemAvailable": &m.available}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		into := want[name]
		if into == nil {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return m, fmt.Errorf("meminfo has no number for %s", name)
		}
		kib, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return m, fmt.Errorf("meminfo, %s: %w", name, err)
		}
		*into = kib * 1024
		delete(want, name)
	}
	if len(want) > 0 {
		return m, errors.New("meminfo lacks Slab, Percpu, VmallocUsed or MemAvailable")
	}
	return m, nil
}

// bytesOfAFlow is more than both ends of a flow use, including the memory of the processes.
const bytesOfAFlow = 16 << 10

// possible reduces the level to what this machine can hold, and returns the reason.
func (l level) possible() (level, string, error) {
	m, err := readMemory()
	if err != nil {
		return l, "", err
	}
	b, err := os.ReadFile("/proc/sys/fs/file-nr")
	if err != nil {
		return l, "", err
	}
	var used, free, most int
	if _, err := fmt.Sscan(string(b), &used, &free, &most); err != nil {
		return l, "", fmt.Errorf("read /proc/sys/fs/file-nr: %w", err)
	}
	smaller, why := l.within(int(m.available/2/bytesOfAFlow), (most-used)*9/20)
	return smaller, why, nil
}

// within bounds the level by memory and by open files, of which a flow has two.
func (l level) within(byMemory, byFiles int) (level, string) {
	n := min(l.flows, byMemory, byFiles)
	if n == l.flows {
		return l, ""
	}
	why := fmt.Sprintf("this machine has no memory for more than %d flows", byMemory)
	if byFiles < byMemory {
		why = fmt.Sprintf("fs.file-max of this machine allows no more than %d flows", byFiles)
	}
	l.flows = max(n/1000*1000, 1)
	return l, why
}
