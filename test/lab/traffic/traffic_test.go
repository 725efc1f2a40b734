// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// serve runs h on a loopback listener until the test ends and returns a function that dials it.
func serve(t *testing.T, h Handler) Dial {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

// pair is a TCP connection, both ends.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	dial := serve(t, func(ctx context.Context, c net.Conn) error {
		accepted <- c
		<-ctx.Done()
		return nil
	})
	a, err := dial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, <-accepted
}

func TestRequestsAreEchoed(t *testing.T) {
	dial := serve(t, Echo)
	for _, size := range []int{1, 64, 1000, 100_000} {
		c, err := dial(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		lat, err := RequestResponse(testContext(t), c, Requests{Seed: 3, Size: size, Count: 20})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if s := lat.Summary(); s.Count != 20 || s.Min <= 0 || s.P50 < s.Min || s.P99 < s.P50 || s.Max < s.P99 {
			t.Errorf("%d bytes: implausible summary %+v", size, s)
		}
	}
}

func TestReplyThatComesTwiceIsFound(t *testing.T) {
	dial := serve(t, func(_ context.Context, c net.Conn) error {
		b := make([]byte, 64)
		for range 2 {
			if _, err := io.ReadFull(c, b); err != nil {
				return err
			}
		}
		_, err := c.Write(append(b, b...))
		return err
	})
	c, err := dial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(stream(1, 0, 64)); err != nil {
		t.Fatal(err)
	}
	var m *Mismatch
	_, err = RequestResponse(testContext(t), c, Requests{Seed: 1, Count: 2})
	if !errors.As(err, &m) || m.Offset != 64 || m.OriginOffset != 0 {
		t.Errorf("RequestResponse() = %v, want byte 0 once more at byte 64", err)
	}
}

func TestStreamsArriveWithAnySizeOfChunks(t *testing.T) {
	for _, s := range []Stream{
		{Seed: 1, Bytes: 0},
		{Seed: 2, Bytes: 5},
		{Seed: 3, Bytes: 1 << 20},
		{Seed: 4, Bytes: 100_001, Chunk: 1000},
		{Seed: 5, Bytes: 300_000, Chunk: 777, Vary: true},
	} {
		a, b := pair(t)
		ab, ba, err := Duplex(testContext(t), a, b, s)
		if err != nil {
			t.Errorf("%+v: %v", s, err)
		}
		if ab.Bytes != s.Bytes || ba.Bytes != s.Bytes {
			t.Errorf("%+v: %d bytes there and %d back", s, ab.Bytes, ba.Bytes)
		}
	}
}

func TestSinkLearnsTheSeed(t *testing.T) {
	a, b := pair(t)
	if _, err := Send(testContext(t), a, Stream{Seed: 77, Bytes: 1000}); err != nil {
		t.Fatal(err)
	}
	a.Close()
	seed, tr, err := ReceiveAny(testContext(t), b, Stream{Bytes: 1000})
	if err != nil || seed != 77 || tr.Bytes != 1000 {
		t.Errorf("ReceiveAny() = %d, %+v, %v", seed, tr, err)
	}
}

func TestReceiveFindsDamage(t *testing.T) {
	whole := stream(7, 0, 1000)
	cases := []struct {
		name string
		sent []byte
		mism bool
	}{
		{"cut short", whole[:900], false},
		{"too long", stream(7, 0, 1001), false},
		{"nothing", nil, false},
		{"shorter than a word", whole[:3], false},
		{"other seed", stream(8, 0, 1000), true},
		{"hole", append(stream(7, 0, 500), whole[501:]...), true},
		{"garbage in the first word", []byte("garbage"), true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			if _, err := a.Write(c.sent); err != nil {
				t.Fatal(err)
			}
			a.Close()
			var m *Mismatch
			_, err := Receive(testContext(t), b, Stream{Seed: 7, Bytes: uint64(len(whole))})
			if err == nil || errors.As(err, &m) != c.mism {
				t.Errorf("Receive() = %v", err)
			}
		})
	}
}

func TestShortConnsCoverAllDials(t *testing.T) {
	used := [4]int{}
	dials := make([]Dial, len(used))
	for i := range dials {
		dial := serve(t, Echo)
		dials[i] = func(ctx context.Context) (net.Conn, error) {
			used[i]++
			return dial(ctx)
		}
	}
	lat, err := ShortConns(testContext(t), dials, Requests{Size: 100, Count: 200})
	if err != nil || len(lat) != 200 || lat.Summary().Min <= 0 {
		t.Errorf("ShortConns() = %d latencies, %v", len(lat), err)
	}
	for i, n := range used {
		if n == 0 {
			t.Errorf("dial %d was never used", i)
		}
	}
}

func TestShortConnsFindsABytePastTheEnd(t *testing.T) {
	dial := serve(t, func(ctx context.Context, c net.Conn) error {
		b := make([]byte, 64)
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		_, err = c.Write(append(b[:n], '!'))
		return err
	})
	if _, err := ShortConns(testContext(t), []Dial{dial}, Requests{Count: 5}); err == nil {
		t.Error("the byte past the end was not noticed")
	}
}

func TestEverythingEndsWithItsContext(t *testing.T) {
	a, _ := pair(t)
	silent := func(ctx context.Context) (net.Conn, error) { c, _ := pair(t); return c, nil }
	for name, f := range map[string]func(context.Context) error{
		"request": func(ctx context.Context) error { _, err := RequestResponse(ctx, a, Requests{}); return err },
		"send":    func(ctx context.Context) error { _, err := Send(ctx, a, Stream{Bytes: 1 << 30}); return err },
		"receive": func(ctx context.Context) error { _, err := Receive(ctx, a, Stream{}); return err },
		"echo":    func(ctx context.Context) error { return Echo(ctx, a) },
		"short": func(ctx context.Context) error {
			_, err := ShortConns(ctx, []Dial{silent}, Requests{Count: 3})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		if err := f(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want deadline exceeded", name, err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s took %v to notice", name, d)
		}
		cancel()
		_ = a.SetDeadline(time.Time{})
	}
}

func TestServeReportsHandlers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	done := make(chan error, 1)
	served := make(chan struct{})
	go func() {
		done <- Serve(t.Context(), l, func(context.Context, net.Conn) error {
			defer close(served)
			return broken
		})
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-served
	_, _ = c.Read(make([]byte, 1)) // the server closes after it has recorded the error
	l.Close()
	if err := <-done; !errors.Is(err, broken) {
		t.Errorf("Serve() = %v, want %v", err, broken)
	}
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	var l Latencies
	for i := 100; i > 0; i-- {
		l = append(l, time.Duration(i))
	}
	for p, want := range map[float64]time.Duration{0: 1, 1: 1, 50: 50, 99: 99, 99.5: 100, 100: 100} {
		if got := l.Percentile(p); got != want {
			t.Errorf("Percentile(%v) = %d, want %d", p, got, want)
		}
	}
	if got := (Latencies{}).Percentile(50); got != 0 {
		t.Errorf("Percentile of nothing = %v", got)
	}
}
