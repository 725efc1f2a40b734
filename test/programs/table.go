// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/marked"
)

var section = marked.Section{Name: "programs", Target: "docs"}

// kernelReport is the report of one of test/vm's kernels.
type kernelReport struct {
	name string
	*Report
}

func tableCommand(out io.Writer, args []string) error {
	f := flag.NewFlagSet("programs table", flag.ContinueOnError)
	into := f.String("into", "", "replace the table of this `document` (default: print it)")
	from := f.String("from", kept, "`directory` of the reports")
	if err := f.Parse(args); err != nil {
		return err
	}
	all, err := load(*from)
	if err != nil {
		return err
	}
	return section.Put(out, *into, table(all))
}

// table has a row for each end, and a column for each kernel. The sentence before it counts the ends that are
// the same on all kernels.
func table(all []kernelReport) string {
	var b strings.Builder
	b.WriteString(blockingLine(all))
	b.WriteString("\n| program | version | end | talks to |")
	for _, k := range all {
		fmt.Fprintf(&b, " %s |", k.title())
	}
	b.WriteString(" why not all of it | what changes that |\n|---|---|---|---|" + strings.Repeat("---|",
		len(all)+2) + "\n")
	for _, name := range caseNames(all) {
		for _, server := range []bool{false, true} {
			row(&b, all, name, server)
		}
	}
	return b.String()
}

func (k kernelReport) title() string {
	if len(k.Off) > 0 {
		return k.name + ": off, " + strings.Join(k.Off, ", ")
	}
	return k.name
}

// caseNames are those of all kernels, in their order.
func caseNames(all []kernelReport) (names []string) {
	for _, k := range all {
		for _, c := range k.Cases {
			if !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

func (k kernelReport) find(name string) (c Case, ok bool) {
	i := slices.IndexFunc(k.Cases, func(c Case) bool { return c.Name == name })
	if i < 0 {
		return c, false
	}
	return k.Cases[i], true
}

func (c Case) end(server bool) (end, peer End, role string) {
	if server {
		return c.Server, c.Client, "server"
	}
	return c.Client, c.Server, "client"
}

func row(b *strings.Builder, all []kernelReport, name string, server bool) {
	var first End
	var peer, role string
	var shares, reasons []string
	for _, k := range all {
		c, ok := k.find(name)
		if !ok {
			shares = append(shares, "not run")
			continue
		}
		e, other, is := c.end(server)
		if first.Program == "" || strings.HasPrefix(first.Version, unknown) {
			first, peer, role = e, other.Program, is
		}
		shares = append(shares, c.share(e))
		if len(k.Off) > 0 {
			continue // nothing is accelerated because of the kernel
		}
		for _, r := range e.Reasons {
			// The only connection was redirected. Others that stayed out were not to the peer.
			if e.Sockets == 1 && e.Redirected > 0 && strings.HasPrefix(r, "connection: ") {
				continue
			}
			if !slices.Contains(reasons, r) {
				reasons = append(reasons, r)
			}
		}
	}
	program := first.Program
	if first.Note != "" {
		program += ", " + first.Note
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", program, first.Version, role, peer,
		strings.Join(shares, " | "),
		strings.Join(reasons, ", "), strings.Join(changes(reasons, first.Blocks()), "; "))
}

// share returns the share in words. The percentage of few bytes would differ between two runs.
func (c Case) share(e End) string {
	switch share := e.Share(); {
	case c.NotRun != "":
		return "not run: " + c.NotRun
	case c.Error != "" && c.Plain == "":
		return "**fails**"
	case c.Error != "":
		return "broken, without sockmap too"
	case e.Redirected == 0:
		return "none"
	case share >= 0.95:
		return "**nearly all**"
	case share >= enough:
		return "**most**"
	case share >= 0.5:
		return "more than half"
	default:
		return "less than half"
	}
}

// blockingLine counts the ends that wait inside receive calls, as most kernels saw it.
func blockingLine(all []kernelReport) string {
	var ends, blocking [2]int
	for _, name := range caseNames(all) {
		for i, server := range []bool{false, true} {
			seen, blocks := 0, 0
			for _, k := range all {
				if c, ok := k.find(name); ok && len(k.Off) == 0 {
					if e, _, _ := c.end(server); e.Sockets > 0 {
						seen++
						if e.Blocks() || !server && e.Redirected == 0 && slices.Contains(e.Reasons, "connection: blocking") {
							blocks++
						}
					}
				}
			}
			if seen > 0 {
				ends[i]++
				if 2*blocks > seen {
					blocking[i]++
				}
			}
		}
	}
	return fmt.Sprintf("%d of %d clients, and %d of %d servers, wait inside receive calls or connect with a blocking descriptor.\n",
		blocking[0], ends[0], blocking[1], ends[1])
}

// advice describes how to avoid a reason.
var advice = map[string]string{
	"connection: blocking":   "a client that connects with O_NONBLOCK, or see *blocking* above",
	"message: blocking":      "this end with O_NONBLOCK and poll, or see *blocking* above",
	"connection: avoided":    "a server that reads with O_NONBLOCK, then `sockmapctl forget`",
	"connection: short":      "connections that are kept",
	"connection: stream":     "nothing needs to: TCP is as fast",
	"message: pages":         "nothing needs to; `write` instead of `sendfile` (nginx: `sendfile off`)",
	"message: corked":        "no TCP_CORK (nginx: `tcp_nopush off`)",
	"message: leaving":       "see the other end",
	"message: small":         "nothing needs to; larger messages",
	"message: waitall":       "a reader without MSG_WAITALL",
	"message: rcvlowat":      "a reader without SO_RCVLOWAT",
	"message: unread":        "a reader that keeps up",
	"message: early":         "nothing: it is so until the client has read",
	"message: backlog-bytes": "a reader that keeps up, or a larger `maxBacklogBytes`",
	"message: inq":           "a reader without TCP_INQ",
	"message: splice":        "a reader without splice(2)",
	"message: shutdown":      "nothing: the reader has ended",
	"message: learning":      "a reader that waits by epoll, or a writer that pauses",
	"message: no-peer":       "nothing: it is so until the other end has joined",
}

// changes are in the order of the reasons. The reader and the sender have the same reason when one of them
// blocks.
func changes(reasons []string, blocks bool) (all []string) {
	for _, r := range reasons {
		text, ok := advice[r]
		switch {
		case !ok:
			text = "see METRICS.md"
		case r == "message: blocking" && !blocks:
			text = "the other end, which blocks"
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}
