// SPDX-License-Identifier: Apache-2.0

// Package stopped measures the cost of connections whose reader never reads: all memory of the kernel, plain
// and accelerated in the same run. Senders send until TCP or a bound blocks them; then the memory is compared
// with the memory before.
//
//	bench stopped                                  1,000 connections, messages of 64 B, 1 KiB and 64 KiB (root)
//
// bench stopped -read the readers read first, until their windows are at their largest
//
//	bench stopped -connections 100 -o result.json
//
// It ends with an error where accelerated connections cost more than 1.25 times as much as plain ones and
// more than 300 MiB for a thousand beyond them (with -read: and by more than what the windows of one pod may
// grow by, 768 MiB), or where send(2) failed with anything but EAGAIN. All connections are on the loopback of
// a separate network namespace; the limits of TCP's memory (net.ipv4.tcp_mem) are the node's, so run no other
// program that sends much.
package stopped

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

const (
	factor    = 1.25
	beyond    = 300 << 20 // bytes for a thousand connections
	perBeyond = 1000
	// grown is by how much the windows of all flows to one pod may grow when its readers have read, see
	// bpf/window.h.
	grown = 64 * (8<<20 + 4096<<10)
)

// result is the result of one size of messages, for both ways.
type result struct {
	Bytes       int    `json:"messageBytes"`
	ReadFirst   bool   `json:"readFirst"`
	Connections int    `json:"connections"`
	Plain       growth `json:"plain"`
	Accelerated growth `json:"accelerated"`
	MostAllowed int64  `json:"mostAllowedBytes"`
	OK          bool   `json:"ok"`
}

// judge returns an error if the accelerated connections cost too much, or if a send returned something else
// than on TCP.
func (r *result) judge() {
	allowance := int64(beyond) * int64(r.Connections) / perBeyond
	r.MostAllowed = max(int64(factor*float64(r.Plain.Kernel)), r.Plain.Kernel+allowance)
	if r.ReadFirst {
		r.MostAllowed += grown
	}
	r.OK = r.Accelerated.Kernel <= r.MostAllowed && r.Accelerated.Child.Errors == 0 &&
		r.Accelerated.Child.Held == r.Connections
}

type options struct {
	connections int
	sizes       []int
	readFirst   bool
	rounds      int
	out         string
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench stopped", flag.ContinueOnError)
	flags.IntVar(&o.connections, "connections", 1000, "`number` of connections")
	sizes := flags.String("sizes", "64,1024,65536", "sizes of messages, in `bytes`")
	flags.BoolVar(&o.readFirst, "read", false, "the readers read first, then stop")
	flags.IntVar(&o.rounds, "rounds", 3,
		"`number` of rounds, of which the middle one counts, plain and accelerated in turn")
	flags.StringVar(&o.out, "o", "", "`file` for the results as JSON")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.connections < 1 || o.rounds < 1 {
		return o, errors.New("connections and rounds: at least one")
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1<<20 {
			return o, fmt.Errorf("sizes: %q is no number of bytes up to 1 MiB", text)
		}
		o.sizes = append(o.sizes, n)
	}
	return o, nil
}

// Main opens connections and does not return, in a process that a measurement has started.
func Main() {
	if os.Getenv(childVariable) == "" {
		return
	}
	if err := child(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "stopped, child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Run measures as the flags in args ask for, and writes a table to standard output.
func Run(_ context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	return run(o)
}

func run(o options) error {
	results, err := measureAll(o)
	if err != nil {
		return err
	}
	show(results)
	if o.out != "" {
		b, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.out, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	var errs []error
	for _, r := range results {
		if !r.OK {
			errs = append(errs,
				fmt.Errorf("messages of %d bytes: %d MiB accelerated, allowed are %d MiB; %d sends failed; %d of %d senders were held back",
					r.Bytes, r.Accelerated.Kernel>>20, r.MostAllowed>>20, r.Accelerated.Child.Errors,
					r.Accelerated.Child.Held, r.Connections))
		}
	}
	return errors.Join(errs...)
}

func measureAll(o options) (results []result, err error) {
	n, err := openNode(2*o.connections + 64)
	defer func() { err = errors.Join(err, n.Close()) }()
	if err != nil {
		return nil, err
	}
	for _, size := range o.sizes {
		r := result{Bytes: size, ReadFirst: o.readFirst, Connections: o.connections}
		w := work{Connections: o.connections, Bytes: size, ReadFirst: o.readFirst}
		plain, accelerated := make([]growth, o.rounds), make([]growth, o.rounds)
		for i := range o.rounds {
			if plain[i], err = n.measure(false, w); err != nil {
				return results, err
			}
			if accelerated[i], err = n.measure(true, w); err != nil {
				return results, err
			}
		}
		r.Plain, r.Accelerated = median(plain), median(accelerated)
		r.judge()
		results = append(results, r)
	}
	return results, nil
}

// median is the middle round by Kernel, with the failed sends of all rounds.
func median(rounds []growth) growth {
	slices.SortFunc(rounds, func(a, b growth) int { return cmp.Compare(a.Kernel, b.Kernel) })
	m := rounds[len(rounds)/2]
	m.Child.Errors = 0
	for _, r := range rounds {
		m.Child.Errors += r.Child.Errors
		m.Child.Held = min(m.Child.Held, r.Child.Held)
	}
	return m
}

func show(results []result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w,
		"MiB\tkernel\tunavailable\tSUnreclaim\tPercpu\tother pages\tTCP (sockstat)\tcgroup\tsent\tredirected\tfailed\t")
	for _, r := range results {
		for _, way := range []struct {
			name string
			g    growth
		}{{"plain", r.Plain}, {"accelerated", r.Accelerated}} {
			mib := func(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) }
			g := way.g
			fmt.Fprintf(w, "%d B, %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t\n", r.Bytes, way.name, mib(g.Kernel),
				mib(g.Unavailable),
				mib(g.SUnreclaim), mib(g.Percpu), mib(g.Pages), mib(g.TCP), mib(g.Cgroup), mib(g.Child.Sent),
				mib(g.Redirected), g.Child.Errors)
		}
	}
	w.Flush()
}
