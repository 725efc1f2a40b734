// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// roleVariable is the environment variable that makes this program a process of a crowd.
const roleVariable = "BENCH_CROWD"

const (
	roleServe = "serve"
	roleDial  = "dial"
)

// order is an order to a process, one line of JSON. One of its fields is set, and Room with the first order.
type order struct {
	Listen  string `json:",omitempty"` // server: listen on this address, on any port
	Connect string `json:",omitempty"` // client: connect to this address
	Room    int    `json:",omitempty"` // number of connections to expect
	Dial    int    `json:",omitempty"` // client: make so many further connections
	Await   int    `json:",omitempty"` // server: wait until there are so many
	Ask     bool   `json:",omitempty"` // client: send a request on each connection
	Hangup  bool   `json:",omitempty"` // close all connections
}

// answer is the reply of a process. Times are in CLOCK_MONOTONIC, which all processes share.
type answer struct {
	Address  string `json:",omitempty"`
	Open     int
	From, At int64
	Failed   int
	Why      string `json:",omitempty"` // error of the first that failed
	Error    string `json:",omitempty"`
}

// member is one process, as its parent sees it.
type member struct {
	cmd       *exec.Cmd
	in        io.WriteCloser
	answers   *json.Decoder
	complaint bytes.Buffer
	kill      context.CancelFunc
}

// start starts a process in place. It ends when its standard input is closed, and so with this process in any
// case.
func start(ctx context.Context, place *lab.Place, role string, cpu int) (*member, error) {
	ctx, kill := context.WithCancel(ctx)
	m := &member{kill: kill, cmd: place.Command(ctx, "/proc/self/exe")}
	m.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	m.cmd.Stderr = &m.complaint
	in, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	m.in, m.answers = in, json.NewDecoder(out)
	// A process stays on the CPU of the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore, err := traffic.PinThread(cpu)
	if err != nil {
		return nil, err
	}
	err = place.Start(m.cmd)
	return m, errors.Join(err, restore())
}

func (m *member) ask(o order) (a answer, err error) {
	late := time.AfterFunc(patience, m.kill)
	defer late.Stop()
	if err = json.NewEncoder(m.in).Encode(o); err == nil {
		err = m.answers.Decode(&a)
	}
	if err != nil {
		m.kill()
		_ = m.cmd.Wait() // so that all its messages have arrived
		return a, fmt.Errorf("a process of the crowd has gone (%+v): %w: %s", o, err,
			bytes.TrimSpace(m.complaint.Bytes()))
	}
	if a.Error != "" {
		return a, fmt.Errorf("a process of the crowd (%+v): %s", o, a.Error)
	}
	return a, nil
}

func (m *member) end() error {
	_ = m.in.Close()
	late := time.AfterFunc(patience, m.kill)
	defer late.Stop()
	defer m.kill()
	if m.cmd.ProcessState != nil {
		return nil // reported already
	}
	if err := m.cmd.Wait(); err != nil {
		return fmt.Errorf("end a process of the crowd: %w: %s", err, bytes.TrimSpace(m.complaint.Bytes()))
	}
	return nil
}
