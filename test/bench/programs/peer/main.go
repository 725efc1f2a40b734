// SPDX-License-Identifier: Apache-2.0

// Command peer has the clients and servers that the benchmark of programs needs and Debian does not have:
// gRPC, a client of memcached, and a producer of large batches with its broker. It is a module of its own
// because of gRPC.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// options are for clients. Servers use only the address.
type options struct {
	address     string
	connections int // number of connections, or of callers
	duration    time.Duration
}

var modes = map[string]func(context.Context, options) error{
	"grpc-serve":    serveGRPC,
	"grpc-unary":    client(callUnary),
	"grpc-stream":   client(callStream),
	"memcached":     client(getMemcached),
	"batches-serve": serveBatches,
	"batches":       client(sendBatches),
}

func main() {
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		exit(fmt.Errorf("usage: peer MODE [flags]; modes are grpc-serve, grpc-unary, grpc-stream, memcached, batches-serve, batches"))
	}
	var o options
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&o.address, "address", "", "`IP:PORT` to listen on or to connect to")
	flags.IntVar(&o.connections, "connections", 1,
		"connections, each with one request at a time; for grpc-unary, callers on one connection")
	flags.DurationVar(&o.duration, "duration", time.Second, "time to measure, after a tenth of it to warm up")
	_ = flags.Parse(os.Args[2:])
	if o.connections < 1 || o.connections > 1000 || o.duration <= 0 || o.duration > time.Minute {
		exit(fmt.Errorf("-connections are 1 to 1000, -duration is up to a minute"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	err := modes[os.Args[1]](ctx, o)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// client prints the results of f.
func client(f func(context.Context, options) (report, error)) func(context.Context, options) error {
	return func(ctx context.Context, o options) error {
		// A peer that does not answer must not block the client for ever.
		ctx, cancel := context.WithTimeout(ctx, o.duration+20*time.Second)
		defer cancel()
		r, err := f(ctx, o)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
}
