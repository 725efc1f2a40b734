// SPDX-License-Identifier: Apache-2.0

// Command bench measures what sockmap costs and gains, and writes the tables and pictures of the documents
// from the results. Each subcommand is a package of the same name.
//
// Measurements need root. They run in their own namespaces and cgroups and remove them, on Ctrl-C too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/bench/crowd"
	"github.com/sockmap-cni/sockmap-cni/test/bench/guards"
	"github.com/sockmap-cni/sockmap-cni/test/bench/instructions"
	"github.com/sockmap-cni/sockmap-cni/test/bench/micro"
	"github.com/sockmap-cni/sockmap-cni/test/bench/programs"
	"github.com/sockmap-cni/sockmap-cni/test/bench/report"
	"github.com/sockmap-cni/sockmap-cni/test/bench/scale"
	"github.com/sockmap-cni/sockmap-cni/test/bench/stopped"
	"github.com/sockmap-cni/sockmap-cni/test/bench/tap"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// command is one subcommand. Its run parses the flags and writes to standard output.
type command struct {
	name, short string
	run         func(ctx context.Context, args []string) error
}

var commands = []command{
	{"micro", "latency, throughput and cost of each request between two sockets", micro.Run},
	{"programs", "redis, nginx, PostgreSQL, memcached, HAProxy and gRPC, with and without sockmap",
		programs.Run},
	{"scale", "many flows, a full map, a full node, and the cost of ADD and DEL", scale.Run},
	{"guards", "cost of each guard for each system call", guards.Run},
	{"tap", "cost of sockmapctl tap for each message", tap.Run},
	{"stopped", "kernel memory of connections whose readers stop reading", stopped.Run},
	{"instructions", "instructions of each request, from measurements in QEMU guests", instructions.Run},
	{"report", "tables and pictures of docs/PERFORMANCE.md from the results", report.Run},
}

// children do not return if this process was started by a measurement as a part of it.
var children = []func(){pods.Main, wire.Main, crowd.Main, guards.Main, tap.Main, stopped.Main}

func main() {
	for _, child := range children {
		child()
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp): // the flag set has written it
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		usage(out)
		return errors.New("no command is given")
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(out)
		return nil
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:])
		if err == nil || errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return fmt.Errorf("unknown command %q (see: bench help)", args[0])
}

func usage(out io.Writer) {
	fmt.Fprint(out,
		"bench measures what sockmap costs and gains.\n\nUsage:\n  bench COMMAND [flags]\n\nCommands:\n")
	for _, c := range commands {
		fmt.Fprintf(out, "  %-13s %s\n", c.name, c.short)
	}
	fmt.Fprint(out, "\nbench COMMAND -h lists the flags of a command. Measurements need root.\n")
}
