// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// DefaultTimeout bounds calls whose context has no deadline.
const DefaultTimeout = time.Minute

// bind makes reads and writes of c fail when the returned context ends: with ctx, or after DefaultTimeout if
// ctx has no deadline. The caller must call release. c remains usable if the context had not ended by then.
func bind(ctx context.Context, c net.Conn) (bound context.Context, release func()) {
	cancel := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
	}
	// No deadline is set on c in advance: another call may use the other direction of c, and the first call
	// to end would remove the deadline for both.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return ctx, func() {
		stop()
		cancel()
	}
}

// because adds the cause of ctx's end to an error that resulted from it.
func because(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return errors.Join(context.Cause(ctx), err)
}

// closeWrite closes the write side of c.
func closeWrite(c net.Conn) error {
	h, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("close the write side of %T: %w", c, errors.ErrUnsupported)
	}
	return h.CloseWrite()
}
