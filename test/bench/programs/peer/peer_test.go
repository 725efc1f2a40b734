// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// listening runs a server on a free port of loopback until the test ends, and returns its address.
func listening(t *testing.T, serve func(context.Context, options) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, options{address: address}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
	}
	t.Fatal("the server does not listen")
	return ""
}

func TestClientsMeasureTheirServers(t *testing.T) {
	for name, c := range map[string]struct {
		serve  func(context.Context, options) error
		client func(context.Context, options) (report, error)
	}{
		"unary":   {serveGRPC, callUnary},
		"stream":  {serveGRPC, callStream},
		"batches": {serveBatches, sendBatches},
	} {
		t.Run(name, func(t *testing.T) {
			o := options{address: listening(t, c.serve), connections: 3, duration: 50 * time.Millisecond}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			r, err := c.client(ctx, o)
			if err != nil || r.Operations == 0 || r.P99 <= 0 || r.Seconds < 0.05 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// answering is a connection whose other end always sends the answer it was made with.
func answering(t *testing.T, answers string) net.Conn {
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close(); server.Close() })
	go func() { _, _ = io.Copy(io.Discard, server) }()
	go func() { _, _ = io.WriteString(server, answers) }()
	return client
}

func TestWrongValuesAreErrors(t *testing.T) {
	value := strings.Repeat("a", valueBytes)
	for answer, ok := range map[string]bool{
		"VALUE key-0 0 100\r\n" + value + "\r\nEND\r\n":      true,
		"VALUE key-0 0 100\r\n" + value[1:] + "b\r\nEND\r\n": false,
		"END\r\n": false,
	} {
		// The bytes after a short answer have arrived, so that no call waits for them.
		get, err := newGet(answering(t, "STORED\r\n"+answer+strings.Repeat(" ", 200)), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := get(t.Context()); (err == nil) != ok {
			t.Errorf("answered %q: %v", answer, err)
		}
	}
	if _, err := newGet(answering(t, "SERVER_ERROR\r\n"), 0); err == nil {
		t.Error("a value that was not stored is taken for one that was")
	}
}

func TestChangedBatchesAreErrors(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	result := make(chan error, 1)
	go func() { result <- takeBatches(server); server.Close() }()
	sent, catch := net.Pipe()
	go func() { _ = newSend(sent, 1)(t.Context()) }()
	b := make([]byte, batchBytes)
	if _, err := io.ReadFull(catch, b); err != nil {
		t.Fatal(err)
	}
	catch.Close()
	changed := bytes.Clone(b)
	changed[batchBytes/2] ^= 1
	for _, step := range []struct {
		batch []byte
		ok    bool
	}{{b, true}, {changed, false}} {
		if !step.ok {
			step.batch[0]++ // in the number of the batch
		}
		if _, err := client.Write(step.batch); err != nil {
			t.Fatal(err)
		}
		ack := make([]byte, batchHead)
		if _, err := io.ReadFull(client, ack); (err == nil) != step.ok {
			t.Errorf("acknowledged: %v, want %v", err == nil, step.ok)
		}
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("the broker returns %v", err)
	}
}

func TestOneFailureEndsTheLoad(t *testing.T) {
	broken := errors.New("broken")
	begin := time.Now()
	_, err := load(t.Context(), 10*time.Second, []exchange{
		func(context.Context) error { return broken },
		func(context.Context) error { time.Sleep(time.Millisecond); return nil },
	})
	if !errors.Is(err, broken) || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}
