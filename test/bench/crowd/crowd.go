// SPDX-License-Identifier: Apache-2.0

// Package crowd keeps very many connections open between two containers. They are more than the open files of
// one process, so it uses many processes, each with its own listener, and so its own port.
//
// A program that uses it must call [Main] first: the processes are the same program.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// patience bounds each request to a process.
const patience = 2 * time.Minute

// Crowd is a set of processes. They hold no connection at first.
type Crowd struct {
	couples []couple
	stop    context.CancelFunc
}

// couple is a server and its client, with the number of connections that it can hold.
type couple struct {
	server, client *member
	room           int
}

// Start starts as many processes in both pods as are needed for room connections. Both processes of a couple
// stay on the same CPU.
func Start(ctx context.Context, client, server *lab.Pod, room, cpu int) (_ *Crowd, err error) {
	ctx, stop := context.WithCancel(ctx)
	c := &Crowd{stop: stop}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	each, err := FilesOfAProcess()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(widen(client), widen(server)); err != nil {
		return nil, err
	}
	for left := room; left > 0; {
		n := min(left, each)
		left -= n
		p := couple{room: n}
		if p.server, err = start(ctx, &server.Place, roleServe, cpu); err != nil {
			return nil, err
		}
		c.couples = append(c.couples, p)
		port, err := p.server.ask(order{Listen: server.IP4().String(), Room: n})
		if err != nil {
			return nil, err
		}
		if p.client, err = start(ctx, &client.Place, roleDial, cpu); err != nil {
			return nil, err
		}
		c.couples[len(c.couples)-1] = p
		if _, err := p.client.ask(order{Connect: port.Address, Room: n}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Processes is the number of processes.
func (c *Crowd) Processes() int { return 2 * len(c.couples) }

// Connect makes n further connections, one after the other, and returns the time until the last was accepted.
func (c *Crowd) Connect(n int) (time.Duration, error) {
	var took time.Duration
	for _, p := range c.couples {
		more := min(n, p.room)
		if more == 0 {
			continue
		}
		n -= more
		dialed, err := p.client.ask(order{Dial: more})
		if err != nil {
			return 0, err
		}
		accepted, err := p.server.ask(order{Await: dialed.Open})
		if err != nil {
			return 0, err
		}
		took += time.Duration(max(accepted.At, dialed.At) - dialed.From)
	}
	if n > 0 {
		return 0, fmt.Errorf("%d connections are more than the processes can hold", n)
	}
	return took, nil
}

// Ask sends 64 bytes through each connection, one after the other, and expects the same bytes back. It
// returns the number of connections that failed, and the first error.
func (c *Crowd) Ask() (asked, failed int, why string, err error) {
	for _, p := range c.couples {
		a, err := p.client.ask(order{Ask: true})
		if err != nil {
			return asked, failed, why, err
		}
		asked += a.Open
		failed += a.Failed
		if why == "" {
			why = a.Why
		}
	}
	return asked, failed, why, nil
}

// Hangup resets all connections at once, so that none is left in TIME_WAIT.
func (c *Crowd) Hangup() error {
	for _, p := range c.couples {
		if _, err := p.client.ask(order{Hangup: true}); err != nil {
			return err
		}
		if _, err := p.server.ask(order{Hangup: true}); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the processes.
func (c *Crowd) Close() error {
	var errs []error
	for _, p := range c.couples {
		for _, m := range []*member{p.client, p.server} {
			if m != nil {
				errs = append(errs, m.end())
			}
		}
	}
	c.stop()
	c.couples = nil
	return errors.Join(errs...)
}
