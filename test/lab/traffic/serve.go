// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Handler serves one connection. It need not close it.
type Handler func(ctx context.Context, c net.Conn) error

// maxErrors bounds the report of a server whose clients all fail.
const maxErrors = 16

// Serve hands every connection that l accepts to h, each in a goroutine of
// its own, until ctx ends or l is closed. It closes l and all connections,
// and returns when every handler has. What handlers returned before ctx ended
// is joined; after that they cannot but fail.
func Serve(ctx context.Context, l net.Listener, h Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()

	var errs errorList
	var handlers sync.WaitGroup
	var acceptErr error
	for {
		c, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				acceptErr = fmt.Errorf("accept: %w", err)
			}
			break
		}
		handlers.Go(func() {
			err := h(ctx, c)
			if ctx.Err() == nil {
				errs.add(err)
			}
			_ = c.Close()
		})
	}
	cancel()
	handlers.Wait()
	_ = l.Close()
	return errors.Join(acceptErr, errs.join())
}

// Echo sends back whatever arrives until the peer closes its write side, then
// closes its own. It never uses splice(2), which io.Copy would: whether that
// works on an accelerated socket is a question for a test of its own.
func Echo(ctx context.Context, c net.Conn) error {
	ctx, release := bind(ctx, c)
	defer release()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return because(ctx, fmt.Errorf("echo: %w", err))
			}
		}
		if errors.Is(err, io.EOF) {
			return because(ctx, closeWrite(c))
		}
		if err != nil {
			return because(ctx, fmt.Errorf("echo: %w", err))
		}
	}
}

// Sink is a Handler that checks one stream per connection, whatever its seed.
func Sink(ctx context.Context, c net.Conn) error {
	_, _, err := ReceiveAny(ctx, c, Stream{})
	return err
}

type errorList struct {
	mu   sync.Mutex
	errs []error
	more int
}

func (l *errorList) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
	case len(l.errs) < maxErrors:
		l.errs = append(l.errs, err)
	default:
		l.more++
	}
}

func (l *errorList) join() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more > 0 {
		return errors.Join(append(l.errs, fmt.Errorf("%d more errors", l.more))...)
	}
	return errors.Join(l.errs...)
}
