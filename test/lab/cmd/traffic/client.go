// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// open connects and sends the Hello.
func (o options) open(m traffic.Mode) (conn, error) {
	c, err := dial(o.connect)
	if err != nil {
		return -1, err
	}
	h := traffic.Hello{Mode: m, Seed: uint32(o.seed), Size: uint32(o.size), Check: o.check}
	if err := c.writeAll(h.Append(nil)); err != nil {
		c.close()
		return -1, err
	}
	return c, nil
}

func requestResponse(o options) (any, error) {
	c, err := o.open(traffic.ModeEcho)
	if err != nil {
		return nil, err
	}
	defer c.close()
	x := o.exchange()
	return o.measure("rr", func() (time.Duration, error) { return x.do(c) })
}

// connectRequestResponse measures from connect until the server has closed its end in answer to the client's
// close.
func connectRequestResponse(o options) (any, error) {
	return o.measure("crr", func() (time.Duration, error) {
		start := time.Now()
		c, err := o.open(traffic.ModeEcho)
		if err != nil {
			return 0, err
		}
		defer c.close()
		if _, err := o.exchange().do(c); err != nil {
			return 0, err
		}
		if err := c.expectEnd(); err != nil {
			return 0, err
		}
		return time.Since(start), nil
	})
}

// measure calls f o.warmup times, and then o.count times or for o.duration. Only the latter calls are in the
// report.
func (o options) measure(kind string, f func() (time.Duration, error)) (any, error) {
	lat := make(traffic.Latencies, 0, o.count)
	for i := range o.warmup {
		if _, err := f(); err != nil {
			return nil, fmt.Errorf("warm-up %d: %w", i, err)
		}
	}
	start, cpu := time.Now(), cpuTime()
	for i := 0; o.more(i); i++ {
		d, err := f()
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i, err)
		}
		lat = append(lat, d)
	}
	r := traffic.Report{Kind: kind, Size: o.size, Checked: o.check, Elapsed: time.Since(start),
		CPU: cpuTime() - cpu}
	s := lat.Summary()
	r.Latency = &s
	r.PerSecond = float64(len(lat)) / r.Elapsed.Seconds()
	return r, nil
}

func (o options) more(done int) bool {
	if o.duration > 0 {
		return !o.over()
	}
	return done < o.count
}

// An exchanger sends requests and compares the answers. Only the time between send and receive counts.
type exchanger struct {
	out, in        *traffic.Pattern
	request, reply []byte
	check          bool
}

func (o options) exchange() *exchanger {
	x := &exchanger{
		out:     traffic.NewPattern(uint32(o.seed)),
		in:      traffic.NewPattern(uint32(o.seed)),
		request: make([]byte, o.size),
		reply:   make([]byte, o.size),
		check:   o.check,
	}
	x.out.Fill(x.request)
	return x
}

func (x *exchanger) do(c conn) (time.Duration, error) {
	start := time.Now()
	if err := c.writeAll(x.request); err != nil {
		return 0, err
	}
	if err := c.readFull(x.reply); err != nil {
		return 0, noEOF(err)
	}
	d := time.Since(start)
	if !x.check {
		return d, nil
	}
	x.out.Fill(x.request)
	return d, x.in.Check(x.reply)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w (the server has gone; see its messages)", io.ErrUnexpectedEOF)
	}
	return err
}

// expectEnd closes the write side and waits until the server has closed its own.
func (c conn) expectEnd() error {
	if err := c.shutdown(); err != nil {
		return err
	}
	var b [64]byte
	n, err := c.read(b[:])
	if err == io.EOF {
		return nil
	}
	return errors.Join(err, fmt.Errorf("expect the end: %d more bytes: % x", n, b[:n]))
}

func (c conn) shutdown() error {
	if err := unix.Shutdown(int(c), unix.SHUT_WR); err != nil {
		return fmt.Errorf("shut down write side: %w", err)
	}
	return nil
}

func stream(o options) (any, error) {
	if (o.bytes == 0) == (o.duration == 0) {
		return nil, errors.New("stream: one of -bytes and -duration is needed")
	}
	c, err := o.open(traffic.ModeSink)
	if err != nil {
		return nil, err
	}
	defer c.close()
	start, cpu := time.Now(), cpuTime()
	sent, err := o.send(c)
	if err != nil {
		return nil, fmt.Errorf("after %d bytes: %w", sent, err)
	}
	if err := c.shutdown(); err != nil {
		return nil, err
	}
	var b [traffic.ReceiptSize]byte
	if err := c.readFull(b[:]); err != nil {
		return nil, noEOF(err)
	}
	receipt, err := traffic.ParseReceipt(b[:])
	if err != nil {
		return nil, err
	}
	if receipt.Bytes != sent || !receipt.Intact {
		return nil, fmt.Errorf("sent %d bytes, %d arrived, intact: %v", sent, receipt.Bytes, receipt.Intact)
	}
	t := traffic.Transfer{Bytes: receipt.Bytes, Elapsed: receipt.Elapsed}
	return traffic.Report{
		Kind: "stream", Size: o.size, Checked: o.check, Elapsed: time.Since(start), CPU: cpuTime() - cpu,
		Transfer: &t, BytesPerSecond: t.BytesPerSecond(),
	}, nil
}

// send writes o.bytes bytes, or writes for o.duration.
func (o options) send(c conn) (sent uint64, err error) {
	p := traffic.NewPattern(uint32(o.seed))
	buf := make([]byte, o.size)
	p.Fill(buf)
	for {
		b := buf
		if o.bytes > 0 {
			b = buf[:min(uint64(len(buf)), o.bytes-sent)]
		}
		if err := c.writeAll(b); err != nil {
			return sent, err
		}
		sent += uint64(len(b))
		if sent == o.bytes || o.duration > 0 && o.over() {
			return sent, nil
		}
		if o.check {
			p.Fill(buf)
		}
	}
}
