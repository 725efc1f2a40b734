// SPDX-License-Identifier: Apache-2.0

// Package tap measures the cost of a tap for each message: the verdict's own time, by the kernel's clock,
// while no tap listens, while one listens whose filter matches none of these messages, and while one copies
// them, in turn in one run. The kernel's clock has its own cost, which is the same for all.
package tap

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// setup is the tap that listens while messages are sent. Snap 0: none.
type setup struct {
	name   string
	filter datapath.TapFilter
}

// No connection here uses port 1.
var setups = []setup{
	{"off", datapath.TapFilter{}},
	{"filtered out", datapath.TapFilter{Snap: datapath.TapSnapMax, Port: 1}},
	{"on, 128 bytes", datapath.TapFilter{Snap: 128}},
	{"on, everything", datapath.TapFilter{Snap: datapath.TapSnapMax}},
}

// Main sends and receives, and does not return, in a process that a measurement has started.
func Main() {
	if os.Getenv(childVariable) == "" {
		return
	}
	if err := talk(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tap:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Run measures as the flags in args ask for, and writes a table to standard output.
func Run(_ context.Context, args []string) error {
	f := flag.NewFlagSet("bench tap", flag.ContinueOnError)
	rounds := f.Int("rounds", 9, "`rounds`; each measures every setup once")
	messages := f.Int("messages", 20_000, "`messages` of a setup in a round")
	size := f.Int("size", 64, "`bytes` of a message")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("arguments %q: there are none, only flags", f.Args())
	}
	return run(os.Stdout, *rounds, *messages, *size)
}

// column is the result of one setup: nanoseconds of the verdict for each message, by round.
type column struct {
	nanos    []float64
	messages uint64 // messages that were copied
	drops    datapath.TapDrops
}

func run(out io.Writer, rounds, messages, size int) (err error) {
	if rounds < 1 || messages < 1 || size < 1 || size > int(datapath.TapSnapMax) {
		return fmt.Errorf("-rounds %d -messages %d -size %d: whole numbers from 1 are needed, a message has up to %d bytes",
			rounds, messages, size, datapath.TapSnapMax)
	}
	n, err := openNode()
	defer func() { err = errors.Join(err, n.Close()) }()
	if err != nil {
		return err
	}
	columns := make([]column, len(setups))
	for round := range rounds {
		for i := range setups {
			// No setup always follows the same other.
			i = (i + round) % len(setups)
			if err := n.measure(setups[i], &columns[i], messages, size); err != nil {
				return fmt.Errorf("%s: %w", setups[i].name, err)
			}
		}
	}
	fmt.Fprintf(out,
		"the verdict's time for each message of %d bytes, medians of %d rounds of %d messages (± half the distance of the quartiles)\n",
		size, rounds, messages)
	return print(out, columns)
}

// print also has the time that each setup adds to "off" of the same round.
func print(out io.Writer, columns []column) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "tap\tns\tbeyond off\tcopied\tdropped")
	for i, c := range columns {
		var beyond []float64
		for round, ns := range c.nanos {
			beyond = append(beyond, ns-columns[0].nanos[round])
		}
		median, spread := summary(c.nanos)
		more, moreSpread := summary(beyond)
		fmt.Fprintf(w, "%s\t%.0f ±%.0f\t%+.0f ±%.0f\t%d\t%d\n", setups[i].name, median, spread, more, moreSpread,
			c.messages, c.drops.Messages)
	}
	return w.Flush()
}

func summary(values []float64) (median, spread float64) {
	s := slices.Sorted(slices.Values(values))
	quarter := (len(s) - 1) / 4 // few rounds have none: the spread is that of all
	return s[(len(s)-1)/2], (s[len(s)-1-quarter] - s[quarter]) / 2
}
