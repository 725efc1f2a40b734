// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Place starts commands in the namespace and cgroup of an end.
type Place interface {
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
	Start(cmd *exec.Cmd) error
}

// Agent is a process that runs one end after the other. It ends with its context, and when this process ends.
type Agent struct {
	name      string
	cmd       *exec.Cmd
	in        io.WriteCloser
	out       *os.File
	orders    *json.Encoder
	answers   *json.Decoder
	complaint bytes.Buffer
}

// Start starts this program again at a place. Its main must call Main.
func Start(ctx context.Context, name string, at Place) (a *Agent, err error) {
	a = &Agent{name: name, cmd: at.Command(ctx, "/proc/self/exe")}
	a.cmd.Env = []string{roleVariable + "=1", "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1"}
	a.cmd.Stderr = &a.complaint
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	a.out, a.cmd.Stdout = out, write
	a.orders, a.answers = json.NewEncoder(a.in), json.NewDecoder(out)
	if err := at.Start(a.cmd); err != nil {
		out.Close()
		return nil, fmt.Errorf("start end %s: %w", name, err)
	}
	return a, nil
}

// answerLimit is longer than the longest time of a stuck end.
const answerLimit = 3 * stuck

// Order sends an order to the process.
func (a *Agent) Order(o Order) error {
	if err := a.orders.Encode(o); err != nil {
		return a.broken(err)
	}
	return nil
}

// Answer waits for the next answer. The error is either that of the end, for this order alone, or ErrBroken.
func (a *Agent) Answer() (answer Answer, err error) {
	if err := a.out.SetReadDeadline(time.Now().Add(answerLimit)); err != nil {
		return answer, a.broken(err)
	}
	if err := a.answers.Decode(&answer); err != nil {
		return answer, a.broken(err)
	}
	if answer.Error != "" {
		return answer, fmt.Errorf("%s: %s", a.name, answer.Error)
	}
	return answer, nil
}

// ErrBroken is the error of an agent that accepts no more orders.
var ErrBroken = errors.New("a process of the traffic is gone")

func (a *Agent) broken(err error) error {
	a.Stop()
	return fmt.Errorf("%w: %s: %w: %s", ErrBroken, a.name, err, strings.TrimSpace(a.complaint.String()))
}

// Stop may be called twice.
func (a *Agent) Stop() {
	a.in.Close()
	a.out.Close()
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// Talk runs one order between two ends. client and server get the same order, except for the CPU. While
// connections of Idle are open, it calls hold.
func Talk(
	client, server *Agent, o Order, clientCPU, serverCPU int, hold func() error,
) (c, s Answer, err error) {
	o.CPU, o.Listen = serverCPU, true
	if err := server.Order(o); err != nil {
		return c, s, err
	}
	ready, err := server.Answer()
	if err != nil {
		return c, s, err
	}
	o.CPU, o.Listen, o.Addr = clientCPU, false, cmp.Or(o.Via, ready.Addr)
	err = client.Order(o)
	if err == nil {
		c, err = client.Answer()
	}
	if err == nil && o.Kind == Idle {
		err = hold()
		if orderErr := client.Order(Order{}); orderErr != nil {
			return c, s, errors.Join(err, orderErr)
		}
		var closed error
		c, closed = client.Answer()
		err = errors.Join(err, closed)
	}
	// The answer is read after an error, too. Otherwise it would be taken for that of the next order.
	s, serverErr := server.Answer()
	return c, s, errors.Join(err, serverErr)
}
