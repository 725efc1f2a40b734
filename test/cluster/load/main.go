// SPDX-License-Identifier: Apache-2.0

// Command load runs in the containers of package cluster: a server that echoes, and clients that compare
// every byte that comes back.
//
//	load serve    -listen ADDRESS
//	load run      -connect ADDRESS [-conns N] [-requests N] [-size N] [-pause D]
//	load exchange -connect ADDRESS [-conns N] [-requests N] [-size N] [-timeout D]
//
// run never ends: each of its workers makes a connection, sends -requests requests, closes it, and makes the
// next. With -requests 0 it uses one connection without end. It never repeats a request, and counts failures.
// Twice a second it prints a line of JSON, a Status. exchange sends -requests on each of -conns connections,
// one after the other, prints one Status, and fails with the first error.
//
// It uses Go's package net, as most servers of a cluster do: descriptors that do not block, and epoll.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: load serve|run|exchange [flags] (-h after the command lists them)")

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	var o options
	f := flag.NewFlagSet("load "+args[0], flag.ContinueOnError)
	f.StringVar(&o.listen, "listen", ":8080", "`address` to listen on")
	f.StringVar(&o.connect, "connect", "", "`address` of the server")
	f.IntVar(&o.conns, "conns", 1, "connections: at a time (run), or one after the other (exchange)")
	f.IntVar(&o.requests, "requests", 1000, "requests on each connection; 0 = without end (run)")
	f.IntVar(&o.size, "size", 512, "`bytes` of a request")
	f.DurationVar(&o.pause, "pause", 10*time.Millisecond, "pause after 10 requests (run)")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "limit of a connect, and of 10 requests")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "serve":
		return serve(ctx, o)
	case "run":
		return load(ctx, o)
	case "exchange":
		return exchange(ctx, o)
	}
	return errUsage
}

type options struct {
	listen, connect       string
	conns, requests, size int
	pause, timeout        time.Duration
}

func serve(ctx context.Context, o options) error {
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	// A context without a deadline would get one, of a minute.
	ctx, cancel := context.WithTimeout(ctx, 24*time.Hour)
	defer cancel()
	// The errors of handlers are not reported here, because the clients compare the bytes.
	_ = traffic.Serve(ctx, l, traffic.Echo)
	return nil
}

// Status has the counts of the clients so far.
type Status struct {
	Connections int    `json:"connections"` // number of connections made
	Requests    int    `json:"requests"`    // requests that came back unchanged
	Bytes       int    `json:"bytes"`       // bytes of these requests in one direction
	Failures    int    `json:"failures"`
	Error       string `json:"error,omitempty"` // the first error
}

// tally is a Status for several goroutines.
type tally struct {
	mu sync.Mutex
	s  Status
}

func (t *tally) add(change func(*Status)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.s)
}

func (t *tally) print() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return json.NewEncoder(os.Stdout).Encode(t.s)
}

func (t *tally) failed(err error) {
	t.add(func(s *Status) {
		if s.Failures++; s.Error == "" {
			s.Error = time.Now().UTC().Format(time.TimeOnly) + " " + err.Error()
		}
	})
}

func load(ctx context.Context, o options) error {
	var t tally
	var workers sync.WaitGroup
	for i := range o.conns {
		workers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := o.connection(ctx, &t, uint32(i)<<24+uint32(n)<<12)
				if err != nil && ctx.Err() == nil {
					t.failed(err)
					o.wait(ctx, 100*time.Millisecond)
				}
			}
		})
	}
	for ticker := time.NewTicker(500 * time.Millisecond); ctx.Err() == nil; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		if err := t.print(); err != nil {
			return err
		}
	}
	workers.Wait()
	return t.print()
}

func exchange(ctx context.Context, o options) error {
	var t tally
	o.pause = 0
	for i := range o.conns {
		if err := o.connection(ctx, &t, uint32(i)<<16); err != nil {
			return err
		}
	}
	return t.print()
}

// batch is the number of requests between two checks of the context.
const batch = 10

// connection makes a connection, sends requests on it, and closes it. No two batches have the same seed, so
// that bytes of another batch are noticed.
func (o options) connection(ctx context.Context, t *tally, seed uint32) error {
	d := net.Dialer{Timeout: o.timeout}
	c, err := d.DialContext(ctx, "tcp", o.connect)
	if err != nil {
		return err
	}
	defer c.Close()
	t.add(func(s *Status) { s.Connections++ })
	for done := 0; o.requests == 0 || done < o.requests; done += batch {
		n := batch
		if o.requests > 0 {
			n = min(n, o.requests-done)
		}
		if err := o.ask(c, seed+uint32(done/batch), n); err != nil {
			return fmt.Errorf("after %d requests on %s: %w", done, c.LocalAddr(), err)
		}
		t.add(func(s *Status) { s.Requests += n; s.Bytes += n * o.size })
		if !o.wait(ctx, o.pause) {
			break
		}
	}
	return nil
}

// ask does not end with the program: it finishes the batch, so that the server sees no broken request.
func (o options) ask(c net.Conn, seed uint32, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	_, err := traffic.RequestResponse(ctx, c, traffic.Requests{Seed: seed, Size: o.size, Count: n})
	return err
}

// wait returns false when the program must end.
func (o options) wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err() == nil
}
