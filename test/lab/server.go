// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// A Server is a running `traffic serve`.
type Server struct {
	addr   string
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stderr *bytes.Buffer
}

// Serve starts the traffic program as a server here, in its own process, on one CPU, or on any CPU if cpu is
// -1. listen is unix:PATH or an IP address and port; port 0 means any free port. The server ends with ctx,
// Close or the place.
func (p *Place) Serve(ctx context.Context, listen string, cpu int) (_ *Server, err error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &Server{cancel: cancel, stderr: new(bytes.Buffer)}
	s.cmd = p.Command(ctx, filepath.Join(p.bin, "traffic"), "serve", "-listen", listen, "-cpu",
		strconv.Itoa(cpu))
	s.cmd.Stderr = s.stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = p.Start(s.cmd)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start server: %w", err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready traffic.Ready
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		cancel()
		err = errors.Join(err, s.cmd.Wait())
		return nil, fmt.Errorf("start server: %w: %s", err, bytes.TrimSpace(s.stderr.Bytes()))
	}
	s.addr = ready.Listen
	return s, nil
}

// Addr is the address that clients connect to, with the chosen port.
func (s *Server) Addr() string { return s.addr }

// Close ends the server. The error contains what the server reported, such as bytes that differ from those
// sent.
func (s *Server) Close() error {
	defer s.cancel()
	if err := s.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end server: %w", err)
	}
	timer := time.AfterFunc(5*time.Second, s.cancel)
	defer timer.Stop()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("end server: %w: %s", err, bytes.TrimSpace(s.stderr.Bytes()))
	}
	if s.stderr.Len() > 0 {
		return fmt.Errorf("server: %s", bytes.TrimSpace(s.stderr.Bytes()))
	}
	return nil
}

// Measure runs the traffic program as a client here. kind is rr, crr or stream, addr is a server's address,
// and args are further flags, such as "-size", "64".
func (p *Place) Measure(ctx context.Context, kind, addr string, cpu int,
	args ...string) (traffic.Report, error) {
	args = append([]string{kind, "-connect", addr, "-cpu", strconv.Itoa(cpu)}, args...)
	var r traffic.Report
	out, err := p.Output(ctx, filepath.Join(p.bin, "traffic"), args...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("parse report: %w", err)
	}
	return r, nil
}
