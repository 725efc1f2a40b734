// SPDX-License-Identifier: Apache-2.0

package instructions

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/counting"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// groups are the names of the cells of a group in the table.
var groups = map[string]string{
	"rr": "request and answer, %s each", "stream": "stream, writes of %s", "churn": "%s",
	"offnode": "%s off the node", "program": "%s",
}

// table has a row for each cell and a column for each kernel. Where sockmap needs more instructions, they are
// in bold.
func table(files []kernelFile) string {
	var b strings.Builder
	sum(&b, files)
	b.WriteString("| instructions, plain → sockmap |")
	for _, f := range files {
		fmt.Fprintf(&b, " %s |", title(f))
	}
	fmt.Fprintf(&b, "\n|%s\n", strings.Repeat("---|", len(files)+1))
	for _, key := range rows(files) {
		fmt.Fprintf(&b, "| %s |", key.title)
		for _, f := range files {
			fmt.Fprintf(&b, " %s |", show(f, key))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func title(f kernelFile) string {
	guards := strings.Join(f.Machine.Guards, ", ")
	return fmt.Sprintf("%s<br>guards %s", f.Machine.Kernel, cmp.Or(guards, "none"))
}

// row is a cell on all kernels.
type row struct{ group, name, title string }

func rows(files []kernelFile) (all []row) {
	for _, f := range files {
		for _, c := range f.Cells {
			r := row{c.Group, c.Name, name(c)}
			if c.Measure == measure && !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	return all
}

func name(c result.Cell) string {
	text := c.Name
	if format := groups[c.Group]; format != "" {
		text = fmt.Sprintf(format, c.Name)
	}
	return text + " (per " + strings.TrimPrefix(c.Unit, counting.Unit) + ")"
}

func show(f kernelFile, key row) string {
	c, r, ok := find(f, key, measure), result.Ratio{}, false
	if c != nil {
		r, ok = c.Against(result.Sockmap)
	}
	if !ok {
		return "not measured"
	}
	text := fmt.Sprintf("%s → %s<br>%s<br>beside: %s", number(*c, result.Plain), number(*c, result.Sockmap),
		ratio(r), number(*c, beside))
	if share, ok := c.Share[result.Sockmap]; ok {
		text += fmt.Sprintf("<br>redirected %.0f %%", 100*share)
	}
	if idle := find(f, key, "idle"); idle != nil {
		plain, sockmap := result.Median(idle.Samples[result.Plain]), result.Median(idle.Samples[result.Sockmap])
		if max(plain, sockmap) >= worthTelling {
			text += fmt.Sprintf("<br>**idle** %.0f → %.0f %% of the time", plain, sockmap)
		}
	}
	return text
}

// measure is the one that is compared. worthTelling is the percentage of idle time above which a cell
// mentions it: one processor that both ends share is busy all the time, unless they wait for a timer.
const (
	measure      = "instructions"
	worthTelling = 5
)

func find(f kernelFile, key row, measure string) *result.Cell {
	for i, c := range f.Cells {
		if c.Group == key.group && c.Name == key.name && c.Measure == measure {
			return &f.Cells[i]
		}
	}
	return nil
}

func number(c result.Cell, v result.Variant) string {
	return result.Count(int(math.Round(result.Median(c.Samples[v]))))
}

func ratio(r result.Ratio) string {
	text := fmt.Sprintf("%.3f (%.3f to %.3f)", r.Value, r.Low, r.High)
	if worse(r) {
		return "**" + text + "**"
	}
	return text
}

// worse means that the whole interval is on that side.
func worse(r result.Ratio) bool { return r.High < 1 }

// sum counts the cells that gain, and names those that lose.
func sum(b *strings.Builder, files []kernelFile) {
	var fewer, same int
	var more []string
	noise := 0.0
	for _, f := range files {
		for _, c := range f.Cells {
			if c.Measure != measure {
				continue
			}
			if twin, ok := c.Against(result.Twin); ok {
				noise = max(noise, math.Abs(twin.Value-1))
			}
			r, ok := c.Against(result.Sockmap)
			switch {
			case !ok:
			case worse(r):
				more = append(more, fmt.Sprintf("%s, %s: %.3f", f.name, name(c), r.Value))
			case r.Low > 1:
				fewer++
			default:
				same++
			}
		}
	}
	fmt.Fprintf(b,
		"Of %d cells, sockmap needs fewer instructions than plain TCP in %d, as many in %d, and more in %d. Two plain pairs differ by %.1f %% at most.\n\n",
		fewer+same+len(more), fewer, same, len(more), 100*noise)
	if len(more) == 0 {
		return
	}
	b.WriteString("More, with the ratio:\n\n")
	for _, line := range more {
		fmt.Fprintf(b, "- %s\n", line)
	}
	b.WriteByte('\n')
}
