// SPDX-License-Identifier: Apache-2.0

package stopped

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// growth is the increase of memory, in bytes.
type growth struct {
	// Kernel is all memory that is neither free (nor in a CPU's list of free pages), nor page cache, nor of
	// programs, nor a cache that can be reclaimed, so that other work on this machine affects it little.
	Kernel      int64 `json:"kernel"`
	Unavailable int64 `json:"unavailable"` // decrease of MemAvailable
	SUnreclaim  int64 `json:"slabUnreclaimable"`
	Slab        int64 `json:"slab"`
	Percpu      int64 `json:"percpu"`
	Pages       int64 `json:"pages"`   // of Kernel, in no other line of /proc/meminfo: sockets and fragments
	TCP         int64 `json:"tcp"`     // mem of TCP in /proc/net/sockstat: what is charged to net.ipv4.tcp_mem
	Cgroup      int64 `json:"cgroup"`  // socket memory that the cgroup of both ends is charged
	Child       did   `json:"senders"` // the results of the senders
	Redirected  int64 `json:"redirected"`
}

func (g growth) minus(b growth) growth {
	return growth{
		Kernel: g.Kernel - b.Kernel, Unavailable: g.Unavailable - b.Unavailable,
		SUnreclaim: g.SUnreclaim - b.SUnreclaim,
		Slab:       g.Slab - b.Slab, Percpu: g.Percpu - b.Percpu, Pages: g.Pages - b.Pages, TCP: g.TCP - b.TCP,
		Cgroup: g.Cgroup - b.Cgroup,
	}
}

// settled waits, for two seconds at most, until the kernel has freed the memory that it frees with a delay.
func settled(cgroup func() (int64, error)) (now growth, err error) {
	const step, enough = 200 * time.Millisecond, 2 << 20
	for i := range 10 {
		before := now.Kernel
		if now, err = readMemory(); err != nil {
			return now, err
		}
		if i > 1 && max(now.Kernel-before, before-now.Kernel) < enough {
			break
		}
		time.Sleep(step)
	}
	now.Cgroup, err = cgroup()
	return now, err
}

func readMemory() (growth, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return growth{}, err
	}
	zones, err := os.ReadFile("/proc/zoneinfo")
	if err != nil {
		return growth{}, err
	}
	g, err := parseMemory(string(b), string(zones))
	if err != nil {
		return g, err
	}
	g.TCP, err = tcpMemory()
	return g, err
}

// listed is the memory in the free lists of the CPUs, in bytes. MemFree leaves it out, and since Linux 6.7
// these lists hold up to an eighth of the memory for a while after much was freed.
func listed(zoneinfo string) (int64, error) {
	pages, found := int64(0), false
	for line := range strings.Lines(zoneinfo) {
		count, ok := strings.CutPrefix(strings.TrimSpace(line), "count:")
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("zoneinfo, count: %w", err)
		}
		pages, found = pages+n, true
	}
	if !found {
		return 0, errors.New("zoneinfo has no count of the pages in lists of CPUs")
	}
	return pages * int64(os.Getpagesize()), nil
}

// parseMemory reads /proc/meminfo and /proc/zoneinfo.
func parseMemory(text, zoneinfo string) (growth, error) {
	m := map[string]int64{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return growth{}, fmt.Errorf("meminfo, %s: %w", name, err)
		}
		m[name] = kib << 10
	}
	for _, name := range []string{"MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "AnonPages",
		"SReclaimable", "SUnreclaim", "Slab", "Percpu"} {
		if _, ok := m[name]; !ok {
			return growth{}, fmt.Errorf("meminfo lacks %s", name)
		}
	}
	free, err := listed(zoneinfo)
	if err != nil {
		return growth{}, err
	}
	free += m["MemFree"]
	kernel := m["MemTotal"] - free - m["Buffers"] - m["Cached"] - m["SwapCached"] -
		m["AnonPages"] - m["SReclaimable"]
	return growth{
		Kernel: kernel, Unavailable: -m["MemAvailable"], SUnreclaim: m["SUnreclaim"], Slab: m["Slab"],
		Percpu: m["Percpu"],
		Pages: kernel - m["SUnreclaim"] - m["Percpu"] - m["VmallocUsed"] - m["KernelStack"] -
			m["PageTables"] - m["SecPageTables"],
	}, nil
}

// tcpMemory is the memory of the node, in any network namespace.
func tcpMemory() (int64, error) {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		for i, word := range words {
			if words[0] == "TCP:" && word == "mem" && i+1 < len(words) {
				pages, err := strconv.ParseInt(words[i+1], 10, 64)
				return pages * int64(os.Getpagesize()), err
			}
		}
	}
	return 0, fmt.Errorf("/proc/net/sockstat has no mem of TCP")
}
