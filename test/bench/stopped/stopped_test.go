// SPDX-License-Identifier: Apache-2.0

package stopped

import (
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	Main()
	fixture.Main(m)
}

// The full measurement has a thousand connections; a hundred show the same within seconds.
func TestStoppedReadersCostAboutAsMuchAsOverTCP(t *testing.T) {
	for _, readFirst := range []bool{false, true} {
		sizes := []int{64, 1 << 10, 64 << 10}
		if readFirst {
			sizes = sizes[2:]
		}
		results, err := measureAll(options{connections: 100, sizes: sizes, readFirst: readFirst, rounds: 3})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if !r.OK || r.Accelerated.Redirected == 0 {
				t.Errorf("read first %v, messages of %d bytes: %d MiB accelerated, %d MiB plain, allowed %d MiB: %+v",
					readFirst, r.Bytes, r.Accelerated.Kernel>>20, r.Plain.Kernel>>20, r.MostAllowed>>20, r.Accelerated)
			}
		}
		show(results)
	}
}

func TestKernelMemoryExcludesFreeAndProgramMemory(t *testing.T) {
	const zones = "  pagesets\n    cpu: 0\n              count:    1\n              high:     9\n    cpu: 1\n              count:    2\n"
	g, err := parseMemory("MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 400 kB\nBuffers: 10 kB\nCached: 90 kB\nAnonPages: 100 kB\n"+
		"Slab: 150 kB\nSReclaimable: 50 kB\nSUnreclaim: 100 kB\nPercpu: 20 kB\nVmallocUsed: 30 kB\nKernelStack: 5 kB\nPageTables: 5 kB\n"+
		"HugePages_Total: 0\n", zones)
	lists := 3 * int64(os.Getpagesize())
	if err != nil || g.Kernel != 450<<10-lists || g.Pages != 290<<10-lists || g.Unavailable != -400<<10 {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := parseMemory("MemTotal: 1 kB\n", zones); err == nil {
		t.Error("no error for a file that lacks nearly everything")
	}
	if _, err := listed("Node 0, zone      DMA\n"); err == nil {
		t.Error("no error for zones without lists of CPUs")
	}
}

func TestResultIsJudgedByMemoryAndErrors(t *testing.T) {
	for _, tt := range []struct {
		plain, accelerated int64
		errors             int64
		want               bool
	}{
		{100, 400, 0, true}, {100, 401, 0, false}, {2000, 2500, 0, true}, {2000, 2501, 0, false},
		{100, 100, 1, false},
	} {
		r := result{Connections: 1000, Plain: growth{Kernel: tt.plain << 20},
			Accelerated: growth{Kernel: tt.accelerated << 20}}
		r.Accelerated.Child = did{Held: 1000, Errors: tt.errors}
		if r.judge(); r.OK != tt.want {
			t.Errorf("%d MiB plain, %d MiB accelerated, %d errors: %v", tt.plain, tt.accelerated, tt.errors, r.OK)
		}
	}
}
