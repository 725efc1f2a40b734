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

// roleVariable in the environment makes this program one of a crowd.
const roleVariable = "BENCH_CROWD"

const (
	roleServe = "serve"
	roleDial  = "dial"
)

// order is what a process is told, a line of JSON. One of its members is set, and Room with the first.
type order struct {
	Listen  string `json:",omitempty"` // server: on this address, a port of its own
	Connect string `json:",omitempty"` // client: to this address, from now on
	Room    int    `json:",omitempty"` // connections that there will be
	Dial    int    `json:",omitempty"` // client: so many connections more
	Await   int    `json:",omitempty"` // server: until so many are there
	Ask     bool   `json:",omitempty"` // client: on each connection
	Hangup  bool   `json:",omitempty"` // all connections
}

// answer is what it says then. Times are of CLOCK_MONOTONIC, which all processes share.
type answer struct {
	Address  string `json:",omitempty"`
	Open     int
	From, At int64
	Failed   int
	Why      string `json:",omitempty"` // of the first that failed
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

// start starts a process in place. It ends when its standard input does, and so with this process, however that ends.
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
		_ = m.cmd.Wait() // so that all it complained about is there
		return a, fmt.Errorf("a process of the crowd has gone (%+v): %w: %s", o, err, bytes.TrimSpace(m.complaint.Bytes()))
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
		return nil // told already
	}
	if err := m.cmd.Wait(); err != nil {
		return fmt.Errorf("end a process of the crowd: %w: %s", err, bytes.TrimSpace(m.complaint.Bytes()))
	}
	return nil
}
