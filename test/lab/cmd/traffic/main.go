// SPDX-License-Identifier: Apache-2.0

// Command traffic is the part of package traffic that runs as processes: a
// server, and clients that measure the traffic between two containers.
//
//	traffic serve  -listen ADDR [-cpu N]
//	traffic rr     -connect ADDR -size N (-count N | -duration D) [-warmup N] [-cpu N]
//	traffic crr    -connect ADDR -size N (-count N | -duration D) [-warmup N] [-cpu N]
//	traffic stream -connect ADDR -size N (-bytes N | -duration D) [-cpu N]
//
// ADDR is an IP address and port, or unix:PATH for a Unix socket, the
// baseline. Each client prints one line of JSON, a traffic.Report, and with
// -duration also early, on SIGUSR1. The server prints a traffic.Ready as
// soon as it listens. Each ends on SIGTERM.
//
// The system calls block without the Go runtime's knowledge: neither its network
// poller nor its scheduler wakes a thread while a request is on its way.
// Therefore there is one P per connection, no garbage collection and no
// preemption, and the program executes itself again on its CPU.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

func main() {
	debug.SetGCPercent(-1) // stopping the world waits for threads that block
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { os.Exit(0) })
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: traffic serve|rr|crr|stream [flags] (-h after the command lists them)")

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	command := map[string]func(options) (any, error){
		"serve":  func(o options) (any, error) { return nil, serve(o, out) },
		"rr":     requestResponse,
		"crr":    connectRequestResponse,
		"stream": stream,
	}[args[0]]
	if command == nil {
		return errUsage
	}
	o, err := parse(args[0], args[1:])
	if err != nil {
		return err
	}
	if err := o.restart(); err != nil {
		return err
	}
	o.prepare()
	report, err := command(o)
	if err != nil || report == nil {
		return err
	}
	return json.NewEncoder(out).Encode(report)
}

type options struct {
	listen, connect     string
	size, count, warmup int
	bytes               uint64
	duration, timeout   time.Duration
	seed                uint
	conns, cpu          int
	check               bool
	over                func() bool // -duration has passed, or SIGUSR1 has come
}

func parse(command string, args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("traffic "+command, flag.ContinueOnError)
	f.IntVar(&o.cpu, "cpu", -1, "stay on this `CPU`; -1 = any that the process may use")
	bound := time.Minute
	if command == "serve" {
		bound = 0
	}
	f.DurationVar(&o.timeout, "timeout", bound, "exit with status 3 after this time; 0 = never")
	if command == "serve" {
		f.StringVar(&o.listen, "listen", "", "`address` to listen on; port 0 = any")
		f.IntVar(&o.conns, "conns", 64, "connections served at a time; more have to wait")
		return o, f.Parse(args)
	}
	f.StringVar(&o.connect, "connect", "", "`address` of the server")
	f.IntVar(&o.size, "size", 64, "`bytes` of a request or of a write")
	f.UintVar(&o.seed, "seed", 1, "seed of the content")
	f.BoolVar(&o.check, "check", true, "compare the content; slows streams down, not requests")
	if command == "stream" {
		f.Uint64Var(&o.bytes, "bytes", 0, "`bytes` to send")
		f.DurationVar(&o.duration, "duration", 0, "how long to send, instead of -bytes")
	} else {
		f.DurationVar(&o.duration, "duration", 0, "how long to measure, instead of -count")
		f.IntVar(&o.count, "count", 10_000, "requests to measure")
		f.IntVar(&o.warmup, "warmup", 1000, "requests before the measurement")
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.size <= 0 || o.count < 0 || o.warmup < 0 {
		return o, fmt.Errorf("-size %d, -count %d, -warmup %d: too small", o.size, o.count, o.warmup)
	}
	return o, nil
}

// prepare configures the Go runtime for the command.
func (o *options) prepare() {
	// A thread that blocks keeps its P. The other Ps are for the timer and for accept.
	runtime.GOMAXPROCS(o.conns + 3)
	o.over = o.untilOver()
	if o.timeout > 0 {
		time.AfterFunc(o.timeout, func() {
			fmt.Fprintf(os.Stderr, "traffic: no end within %v\n", o.timeout)
			os.Exit(3)
		})
	}
}

// untilOver returns a function that reports whether o.duration has passed since this call.
func (o *options) untilOver() func() bool {
	var told atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	go func() { <-signals; told.Store(true) }()
	start := time.Now()
	return func() bool { return told.Load() || time.Since(start) >= o.duration }
}

// restarted is the environment variable by which a process knows that restart has executed it.
const restarted = "asyncpreemptoff=1"

// restart replaces the process by one that has all its threads on o.cpu and whose scheduler never interrupts
// a system call by a signal. The Go runtime reads the latter setting only from the environment.
func (o options) restart() error {
	if os.Getenv("GODEBUG") == restarted {
		return nil
	}
	runtime.LockOSThread() // execve(2) keeps the affinity of its caller
	if o.cpu >= 0 {
		if _, err := traffic.PinThread(o.cpu); err != nil {
			return err
		}
	}
	env := append(os.Environ(), "GODEBUG="+restarted)
	if err := unix.Exec("/proc/self/exe", os.Args, env); err != nil {
		return fmt.Errorf("start over: %w", err)
	}
	return nil
}

// cpuTime is the user and system time that the process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // cannot fail for the own process
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
