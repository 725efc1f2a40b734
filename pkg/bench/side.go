// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// roleVariable in the environment makes Main do a part of the work instead of the program.
const (
	roleVariable = "SOCKMAP_BENCH_ROLE"
	roleJanitor  = "janitor"
	roleSide     = "side"
	roleServer   = "server"
)

// Main does the part of a child that Run started, and ends the process. Else it returns at once.
func Main() {
	var err error
	switch os.Getenv(roleVariable) {
	case "":
		return
	case roleJanitor:
		err = sweep(os.Args[1:])
	case roleServer:
		err = serveConnections(os.Args[1:])
	default:
		err = serveSide(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func self(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{roleVariable + "=" + role}
	return cmd
}

// order is what a side is to measure, and measured what it has.
type order struct {
	Case
	Time time.Duration
}

type measured struct {
	Value float64
	Sent  uint64 // bytes, by both ends
	Error string
}

// side is a process in a cgroup of its own, between two network namespaces that go with it.
type side struct {
	cmd       *exec.Cmd
	in        io.WriteCloser
	orders    *json.Encoder
	answers   *json.Decoder
	complaint bytes.Buffer
}

func startSide(ctx context.Context, cgroup *os.File, cpu int) (*side, error) {
	base := self(roleSide, strconv.Itoa(cpu))
	s := &side{cmd: exec.CommandContext(ctx, base.Path, base.Args[1:]...)}
	s.cmd.Env = base.Env
	s.cmd.Stderr = &s.complaint
	s.cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(cgroup.Fd()), Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
	}
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.in, s.orders, s.answers = in, json.NewEncoder(in), json.NewDecoder(out)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start traffic: %w", err)
	}
	return s, nil
}

func (s *side) measure(c Case, d time.Duration) (m measured, err error) {
	if err = s.orders.Encode(order{c, d}); err == nil {
		err = s.answers.Decode(&m)
	}
	if err != nil {
		s.stop()
		return m, fmt.Errorf("%w: %s", err, strings.TrimSpace(s.complaint.String()))
	}
	if m.Error != "" {
		return m, fmt.Errorf("%s", m.Error)
	}
	return m, nil
}

// stop may be called twice.
func (s *side) stop() {
	s.in.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
