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

// maxErrors bounds the number of errors that are reported when all clients fail.
const maxErrors = 16

// Serve hands every connection that l accepts to h, each in its own goroutine, until ctx ends or l is closed.
// It closes l and all connections, and returns when every handler has. It joins the errors that handlers
// returned before ctx ended; after that all handlers fail.
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

// Echo sends all bytes back until the peer closes its write side, then closes its own. It does not use
// splice(2), which io.Copy would: splice on an accelerated socket has its own tests.
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

// Sink is a Handler that checks one stream per connection. The stream may have any seed.
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
