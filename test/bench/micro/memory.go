// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func memory(p pace) []work {
	name := "open flow, both ends"
	note := fmt.Sprintf("growth of Slab and Percpu in /proc/meminfo by %d idle connections after one request each, by their number", p.flows)
	all := view{measure: "memory", unit: "B", better: result.Lower, value: value, note: note}
	beyond := view{
		name: name + ", beyond plain", measure: "memory", unit: "B", better: result.Lower, limit: 2048, note: note,
		derive: difference(result.Sockmap, result.Plain),
	}
	o := wire.Order{Kind: wire.Idle, Size: 64, Conns: p.flows}
	return []work{{
		group: "memory", name: name, cpus: same, variants: []result.Variant{result.Plain, result.Sockmap},
		shares: []result.Variant{result.Sockmap},
		measure: func(w *world, v result.Variant) (outcome, error) {
			before, err := settledMemory()
			if err != nil {
				return outcome{}, err
			}
			var after int64
			hold := func() (err error) { after, err = settledMemory(); return err }
			out, err := w.slot(w.routes[v], v, o, same, hold)
			out.value = float64(after-before) / float64(p.flows)
			return out, err
		},
		views: []view{all, beyond},
	}}
}

// settledMemory waits, for half a second at most, until the kernel has freed the memory that it frees with a
// delay.
func settledMemory() (bytes int64, err error) {
	const step, enough = 25 * time.Millisecond, 32 << 10
	steady := 0
	for range 20 {
		now, err := kernelMemory()
		if err != nil {
			return 0, err
		}
		if steady++; max(now-bytes, bytes-now) > enough {
			steady = 0
		}
		if bytes = now; steady == 4 {
			break
		}
		time.Sleep(step)
	}
	return bytes, nil
}

func kernelMemory() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return memoryIn(string(b))
}

func memoryIn(meminfo string) (sum int64, err error) {
	found := 0
	for line := range strings.Lines(meminfo) {
		name, rest, _ := strings.Cut(line, ":")
		if name != "Slab" && name != "Percpu" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/meminfo: %s: %w", name, err)
		}
		sum += kib << 10
		found++
	}
	if found != 2 {
		return 0, fmt.Errorf("/proc/meminfo lacks Slab or Percpu")
	}
	return sum, nil
}
