// SPDX-License-Identifier: Apache-2.0

// Talk runs in containers: two of them exchange data, and every byte is checked.
//
//	talk serve ADDRESS:PORT   echoes until it is ended
//	talk ask ADDRESS:PORT     sends requests and compares the answers; "ok N": N bytes went each way
//	talk pause                does nothing, until it is ended
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

var requests = traffic.Requests{Seed: 7, Size: 4096, Count: 512}

// patience is for a server that does not listen yet.
const patience = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "talk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "pause":
		<-ctx.Done()
		return nil
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) == 2 && args[0] == "ask":
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return question(ctx, args[1])
	}
	return errors.New("usage: talk serve ADDRESS | ask ADDRESS | pause")
}

func serve(ctx context.Context, address string) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // accelerated sockets are plain TCP
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return traffic.Serve(ctx, l, traffic.Echo)
}

func question(ctx context.Context, address string) error {
	c, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := traffic.RequestResponse(ctx, c, requests); err != nil {
		return err
	}
	fmt.Println("ok", requests.Size*requests.Count)
	return nil
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		d := net.Dialer{Timeout: patience}
		c, err := d.DialContext(ctx, "tcp", address)
		if err == nil || !errors.Is(err, unix.ECONNREFUSED) || time.Since(start) > patience {
			return c, err
		}
	}
}
