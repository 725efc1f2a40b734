// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// valueBytes is the size of each key's value.
const valueBytes = 100

// getMemcached asks for one key on each connection, in the text protocol.
func getMemcached(ctx context.Context, o options) (report, error) {
	var gets []exchange
	for i := range o.connections {
		c, err := dial(ctx, o.address)
		if err != nil {
			return report{}, err
		}
		defer c.Close()
		get, err := newGet(c, i)
		if err != nil {
			return report{}, err
		}
		gets = append(gets, get)
	}
	return load(ctx, o.duration, gets)
}

// dial makes a connection whose calls fail when ctx ends.
func dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// newGet sets the key first.
func newGet(c net.Conn, i int) (exchange, error) {
	key := fmt.Sprintf("key-%d", i)
	value := bytes.Repeat([]byte{'a' + byte(i%26)}, valueBytes)
	in := bufio.NewReader(c)
	if _, err := fmt.Fprintf(c, "set %s 0 0 %d\r\n%s\r\n", key, valueBytes, value); err != nil {
		return nil, fmt.Errorf("set %s: %w", key, err)
	}
	if line, err := in.ReadString('\n'); err != nil || line != "STORED\r\n" {
		return nil, fmt.Errorf("set %s: answered %q: %v", key, line, err)
	}
	request := []byte("get " + key + "\r\n")
	want := fmt.Appendf(nil, "VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, valueBytes, value)
	got := make([]byte, len(want))
	return func(context.Context) error {
		if _, err := c.Write(request); err != nil {
			return fmt.Errorf("get %s: %w", key, err)
		}
		if n, err := io.ReadFull(in, got); err != nil {
			return fmt.Errorf("get %s: after %q: %w", key, got[:n], err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("get %s: answered %q instead of %q", key, got, want)
		}
		return nil
	}, nil
}
