// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/loopback"
)

// childVariable is the environment variable that makes this program send and receive, in the cgroup in which
// it was started.
const childVariable = "TAP_BENCH_TALK"

// talkLimit bounds one order.
const talkLimit = 5 * time.Minute

// talk makes one connection and, for each line "messages size", sends so many messages through it. Each is
// read before the next is sent, so all are redirected.
func talk(in io.Reader, out io.Writer) error {
	if err := loopback.Up(); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	from, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := l.Accept()
	if err != nil {
		return err
	}
	defer to.Close()
	orders := bufio.NewReader(in)
	for {
		var messages, size int
		if _, err := fmt.Fscanln(orders, &messages, &size); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		if err := send(from, to, messages, size); err != nil {
			return err
		}
		fmt.Fprintln(out, messages)
	}
}

func send(from, to net.Conn, messages, size int) error {
	end := time.Now().Add(talkLimit)
	if err := errors.Join(from.SetDeadline(end), to.SetDeadline(end)); err != nil {
		return err
	}
	buf := make([]byte, size)
	for range messages {
		if _, err := from.Write(buf); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if _, err := io.ReadFull(to, buf); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
	}
	return nil
}
