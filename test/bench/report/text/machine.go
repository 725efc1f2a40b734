// SPDX-License-Identifier: Apache-2.0

package text

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// runs has a row for each run.
func runs(machines []cells.Machine) string {
	var b strings.Builder
	row(&b, "CPU", "CPUs", "memory", "page tables", "kernel", "guards", "measured", "version", "begun", "took")
	ruler(&b, 10)
	for _, m := range machines {
		for _, f := range m.Files {
			row(&b, inline(f.Machine.CPU), fmt.Sprint(f.Machine.CPUs),
				fmt.Sprintf("%.1f GiB", float64(f.Machine.MemoryMiB)/1024),
				pageTables(f.Machine), inline(f.Machine.Kernel), cmp.Or(strings.Join(f.Machine.Guards, ", "), "none"),
				inline(f.Suite),
				inline(f.Version), f.Started.UTC().Format("2006-01-02 15:04 MST"), f.Took.Round(time.Second).String())
		}
	}
	return b.String()
}

// pageTables describes who walks the page tables, and the time of a page fault, from which that is known.
func pageTables(m result.Machine) string {
	text := cmp.Or(m.PageTables, result.UnknownPageTables)
	if m.Fault > 0 {
		text += ", a fault takes " + result.Show(float64(m.Fault), "ns")
	}
	return text
}
