// SPDX-License-Identifier: Apache-2.0

package text

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// machine has a column for each run.
func machine(files []result.File) string {
	var b strings.Builder
	line := func(title string, cell func(f result.File) string) {
		texts := []string{title}
		for _, f := range files {
			texts = append(texts, inline(cell(f)))
		}
		row(&b, texts...)
	}
	line("", func(f result.File) string { return f.Suite })
	ruler(&b, len(files)+1)
	line("kernel", func(f result.File) string { return f.Machine.Kernel })
	line("CPU", func(f result.File) string { return f.Machine.CPU })
	line("CPUs", func(f result.File) string { return fmt.Sprint(f.Machine.CPUs) })
	line("memory", func(f result.File) string { return fmt.Sprintf("%.1f GiB", float64(f.Machine.MemoryMiB)/1024) })
	line("guards", func(f result.File) string { return cmp.Or(strings.Join(f.Machine.Guards, ", "), "none") })
	line("version", func(f result.File) string { return f.Version })
	line("begun", func(f result.File) string { return f.Started.UTC().Format("2006-01-02 15:04 MST") })
	line("took", func(f result.File) string { return f.Took.Round(time.Second).String() })
	return b.String()
}
