// SPDX-License-Identifier: Apache-2.0

// Package crowd keeps very many connections open between two containers: more than one process may have files, so by many
// processes, each of which has a listener, and so a port, for itself.
//
// A program that uses it calls [Main] first: the processes are the program itself, started once more.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// patience bounds everything that a process is asked for.
const patience = 2 * time.Minute

// Crowd is the processes. They hold no connection at first.
type Crowd struct {
	couples []couple
	stop    context.CancelFunc
}

// couple is a server and its client, with the number of connections that it can hold.
type couple struct {
	server, client *member
	room           int
}

// Start starts as many processes in both pods as it takes to hold room connections. Those of one couple stay on the same
// CPU.
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

// Processes is how many there are.
func (c *Crowd) Processes() int { return 2 * len(c.couples) }

// Connect makes n connections more, one after the other, and returns how long it took until the last was accepted.
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
		return 0, fmt.Errorf("there is no room for %d connections", n)
	}
	return took, nil
}

// Ask sends 64 bytes through each connection, one after the other, and expects them back. It returns how many did not answer
// so, and why the first did not.
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

// Hangup ends all connections at once, by reset: none is left in TIME_WAIT.
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
