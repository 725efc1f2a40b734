// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"os/signal"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"golang.org/x/sys/unix"
)

// env is the environment of one run, so that tests run commands in their own process.
type env struct {
	stdout, stderr io.Writer
	getenv         func(string) string
	// width is the number of columns of the terminal on stdout; 0: it is none, and nothing is cut.
	width int
	host  host
	// probe looks for hazards when the programs are loaded. nil in tests that are not about hazards.
	probe datapath.Probe
}

// adjust changes the environment in builds for tests; see scripts.go.
var adjust func(*env)

func main() {
	probe.Main()
	bench.Main()
	// A command that waits for the lock, or is between two steps, returns an error and cleans up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	e := env{
		stdout: os.Stdout,
		stderr: os.Stderr,
		getenv: os.Getenv,
		width:  terminalWidth(os.Stdout),
		host:   thisHost(),
		probe:  probe.AtLoad,
	}
	if adjust != nil {
		adjust(&e)
	}
	code := run(ctx, e, os.Args[1:])
	stop()
	os.Exit(code)
}

func terminalWidth(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, e env, args []string) int {
	root := rootCommand(&app{env: e})
	root.SetArgs(args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	strictBuiltins(root) // they keep the streams that are set
	cmd, err := root.ExecuteContextC(ctx)
	return report(e, cmd.CommandPath(), err)
}
