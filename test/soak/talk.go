// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// limit bounds one conversation: a longer one hangs. No conversation has more than mostMessages in one
// direction, so that it cannot reach the limit by its work alone, even on a busy machine.
const (
	limit        = 60 * time.Second
	mostMessages = 20000
)

// kind is a kind of conversation. It returns the number of bytes that it has checked.
type kind struct {
	name string
	talk func(ctx context.Context, rng *rand.Rand, from, to *lab.Pod) (uint64, error)
}

var kinds = []kind{
	{"requests and answers", withPair(requests)},
	{"streams both ways at once", withPair(duplex)},
	{"a stream with pauses of the reader", withPair(slowReader)},
	{"half close, then the answer", withPair(halfClose)},
	{"a reset in mid-stream", withPair(reset)},
	{"single bytes, and calls with flags", withPair(flags)},
	{"a killed process", killed},
}

var lastingKind = kind{"messages both ways for half a minute", withPair(lasting)}

// withPair makes a connection between the pods, over IPv4 or IPv6.
func withPair(f func(ctx context.Context, rng *rand.Rand, client, server net.Conn) (uint64, error)) func(
	context.Context, *rand.Rand, *lab.Pod, *lab.Pod) (uint64, error) {
	return func(ctx context.Context, rng *rand.Rand, from, to *lab.Pod) (uint64, error) {
		ip := to.IP4()
		if rng.IntN(2) == 0 {
			ip = to.IP6()
		}
		l, err := to.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
		if err != nil {
			return 0, err
		}
		defer l.Close()
		client, err := from.Dial("tcp", l.Addr().String())
		if err != nil {
			return 0, err
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			return 0, err
		}
		defer server.Close()
		defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
		end := time.Now().Add(limit)
		if err := errors.Join(client.SetDeadline(end), server.SetDeadline(end)); err != nil {
			return 0, err
		}
		n, err := f(ctx, rng, client, server)
		return n, describeStuck(err, from.Node(), client, server)
	}
}

// size is between 1 and most; small sizes are more frequent.
func size(rng *rand.Rand, most int) int { return 1 + rng.IntN(1+rng.IntN(most)) }

func requests(ctx context.Context, rng *rand.Rand, client, server net.Conn) (uint64, error) {
	r := traffic.Requests{Seed: rng.Uint32(), Size: size(rng, 256<<10), Count: 1 + rng.IntN(50)}
	var both errgroup.Group
	both.Go(func() error { return traffic.Echo(ctx, server) })
	_, err := traffic.RequestResponse(ctx, client, r)
	client.Close()
	both.Wait()
	return uint64(r.Size) * uint64(r.Count), err
}

func duplex(ctx context.Context, rng *rand.Rand, client, server net.Conn) (uint64, error) {
	chunk := size(rng, 128<<10)
	s := traffic.Stream{Seed: rng.Uint32(), Bytes: uint64(size(rng, min(8<<20, mostMessages/2*chunk))),
		Chunk: chunk, Vary: true}
	_, _, err := traffic.Duplex(ctx, client, server, s)
	return 2 * s.Bytes, err
}

func slowReader(ctx context.Context, rng *rand.Rand, client, server net.Conn) (uint64, error) {
	seed, total := rng.Uint32(), 4<<20+rng.IntN(12<<20)
	chunk := max(size(rng, 64<<10), total/mostMessages)
	var both errgroup.Group
	both.Go(func() error {
		_, err := traffic.Send(ctx, client, traffic.Stream{Seed: seed, Bytes: uint64(total), Chunk: chunk})
		return err
	})
	pattern, buf := traffic.NewPattern(seed), make([]byte, 256<<10)
	for got := 0; got < total; {
		n, err := server.Read(buf[:min(len(buf), total-got)])
		if err != nil {
			return uint64(got), fmt.Errorf("read after %d of %d bytes: %w", got, total, err)
		}
		if err := pattern.Check(buf[:n]); err != nil {
			return uint64(got), err
		}
		if got += n; rng.IntN(20) == 0 {
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
	}
	return uint64(total), both.Wait()
}

func halfClose(ctx context.Context, rng *rand.Rand, client, server net.Conn) (uint64, error) {
	chunk := size(rng, 64<<10)
	s := traffic.Stream{Seed: rng.Uint32(), Bytes: uint64(size(rng, min(4<<20, mostMessages*chunk))),
		Chunk: chunk}
	if _, err := traffic.OneWay(ctx, client, server, s); err != nil {
		return 0, err
	}
	s.Seed++
	_, err := traffic.OneWay(ctx, server, client, s)
	return 2 * s.Bytes, err
}

// reset ends the connection by RST. The bytes that arrive before must be right, but some may be missing.
func reset(ctx context.Context, rng *rand.Rand, client, server net.Conn) (uint64, error) {
	seed, total := rng.Uint32(), size(rng, 2<<20)
	if _, err := traffic.Send(ctx, client, traffic.Stream{Seed: seed, Bytes: uint64(min(total, 64<<10)),
		Chunk: 1000}); err != nil {
		return 0, err
	}
	if err := client.(*net.TCPConn).SetLinger(0); err != nil {
		return 0, err
	}
	client.Close()
	return checkUntilEnd(server, traffic.NewPattern(seed))
}

// checkUntilEnd reads until the stream ends, in any way.
func checkUntilEnd(c net.Conn, p *traffic.Pattern) (got uint64, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, readErr := c.Read(buf)
		if err := p.Check(buf[:n]); err != nil {
			return got, err
		}
		got += uint64(n)
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, unix.ECONNRESET) {
			return got, nil
		}
		if readErr != nil {
			return got, readErr
		}
	}
}

// flags sends single bytes and small messages with the flags that programs use, and peeks before it reads.
func flags(_ context.Context, rng *rand.Rand, client, server net.Conn) (uint64, error) {
	seed, total := rng.Uint32(), 1+rng.IntN(3000)
	out, in := traffic.NewPattern(seed), traffic.NewPattern(seed)
	raw, err := client.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	choices := []int{0, unix.MSG_MORE, unix.MSG_DONTWAIT, unix.MSG_NOSIGNAL, unix.MSG_EOR}
	for sent := 0; sent < total; {
		message := make([]byte, min(size(rng, 300), total-sent))
		out.Fill(message)
		if err := sendAll(raw, message, choices[rng.IntN(len(choices))]); err != nil {
			return uint64(sent), err
		}
		got := make([]byte, len(message))
		if err := peek(server); err != nil {
			return uint64(sent), err
		}
		if _, err := io.ReadFull(server, got); err != nil {
			return uint64(sent), err
		}
		if err := in.Check(got); err != nil {
			return uint64(sent), err
		}
		sent += len(message)
	}
	return uint64(total), nil
}

// killed starts a stream in its own process and kills it: the bytes that arrived are right, and the end is
// noticed.
func killed(ctx context.Context, rng *rand.Rand, from, to *lab.Pod) (uint64, error) {
	s, err := to.Serve(ctx, netip.AddrPortFrom(to.IP4(), 0).String(), -1)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client := from.Command(ctx, filepath.Join(from.Bin(), "traffic"), "stream", "-connect", s.Addr(), "-size",
		"4096", "-duration", "10s")
	if err := from.Start(client); err != nil {
		return 0, errors.Join(err, s.Close())
	}
	time.Sleep(time.Duration(20+rng.IntN(100)) * time.Millisecond)
	err = client.Process.Kill()
	_ = client.Wait()
	// The server reports a stream that ends early. It would also report wrong bytes.
	_ = s.Close()
	return 0, err
}
