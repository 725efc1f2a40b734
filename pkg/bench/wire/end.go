// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// roleVariable in the environment makes Main play an end.
const roleVariable = "SOCKMAP_BENCH_WIRE"

// Main runs an end, and ends the process, if an Agent started it. Otherwise it returns at once.
func Main() {
	if os.Getenv(roleVariable) == "" {
		return
	}
	if err := play(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// end keeps buffers from order to order, so that a measurement does not allocate.
type end struct {
	w     waiter
	buf   []byte
	times []time.Duration
}

// expectedTimes is enough for a second of requests of one microsecond; append handles more.
const expectedTimes = 1 << 20

func (e *end) buffer(size int) []byte {
	if len(e.buf) < size {
		e.buf = make([]byte, size)
	}
	return e.buf[:size]
}

// play runs one order after the other until the reader of orders ends. While it waits for them, its system
// call is an ordinary one, and the runtime can sleep.
func play(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	if err := prepare(); err != nil {
		return err
	}
	e := &end{times: make([]time.Duration, 0, expectedTimes)}
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	answer := func(a Answer) error { return answers.Encode(a) }
	for {
		var o Order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		a, err := e.bounded(o, answer, func() error { return orders.Decode(&Order{}) })
		if err != nil {
			a.Error = err.Error()
		}
		if err := answer(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// prepare keeps the runtime's own threads off the CPUs of the measurement.
func prepare() error {
	cpu, err := firstCPU()
	if err != nil {
		return err
	}
	return PinProcess(0, cpu)
}

// widenPorts is for Churn, whose connections leave their ports in TIME_WAIT for a minute. The network
// namespace is the end's own, or another end's.
func widenPorts() error {
	const ports = "/proc/sys/net/ipv4/ip_local_port_range"
	if err := os.WriteFile(ports, []byte("4096 65535"), 0); err != nil {
		return fmt.Errorf("widen the range of ports: %w", err)
	}
	return nil
}

func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	return nil
}

func (e *end) bounded(o Order, answer func(Answer) error, next func() error) (Answer, error) {
	if err := e.w.arm(o.Warm + o.Time); err != nil {
		return Answer{}, err
	}
	a, err := e.do(o, answer, next)
	return a, errors.Join(err, e.w.disarm())
}

func (e *end) do(o Order, answer func(Answer) error, next func() error) (Answer, error) {
	if err := pin(o.CPU); err != nil {
		return Answer{}, err
	}
	if o.Listen {
		return e.serve(o, answer)
	}
	switch o.Kind {
	case Requests:
		return e.requests(o)
	case Stream:
		return e.write(o)
	case Many:
		return e.many(o)
	case Idle:
		return e.idle(o, answer, next)
	case Churn:
		return e.churn(o)
	}
	return Answer{}, fmt.Errorf("order of unknown kind %q", o.Kind)
}

func (e *end) serve(o Order, answer func(Answer) error) (Answer, error) {
	listener, addr, err := listen(o)
	if err != nil {
		return Answer{}, err
	}
	defer closeFD(listener)
	if err := answer(Answer{Addr: addr}); err != nil {
		return Answer{}, err
	}
	switch o.Kind {
	case Requests:
		return e.serveRequests(listener, o)
	case Stream:
		return e.sink(listener, o)
	case Many, Idle:
		return e.serveMany(listener, o)
	case Churn:
		return e.serveChurn(listener, o)
	}
	return Answer{}, fmt.Errorf("order of unknown kind %q", o.Kind)
}
