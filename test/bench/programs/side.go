// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// side is one of the variants, while a program's servers run in its containers.
type side struct {
	bench   *bench
	variant result.Variant
	pods    *pods.Pair
	dir     string // directory of the servers' files
	servers []*server
}

// server is a process on the servers' CPU.
type server struct {
	name  string
	cmd   *exec.Cmd
	log   string // file
	end   syscall.Signal
	ended chan struct{}
}

// spec is a server to start.
type spec struct {
	where *lab.Pod
	user  *syscall.Credential // nil: root
	end   syscall.Signal      // signal that ends it at once, with all its processes
	args  []string
}

func (s *side) serve(ctx context.Context, spec spec) error {
	name := filepath.Base(spec.args[0])
	started := &server{name: name, end: spec.end, ended: make(chan struct{}),
		log: filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", name, len(s.servers)))}
	log, err := os.Create(started.log)
	if err != nil {
		return fmt.Errorf("make log of %s: %w", name, err)
	}
	defer log.Close()
	// The context does not end the server; stop does, more gently.
	started.cmd = spec.where.Command(context.WithoutCancel(ctx), "taskset", pinned(serverCPU, spec.args)...)
	started.cmd.Stdout, started.cmd.Stderr = log, log
	started.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: spec.user}
	if err := spec.where.Start(started.cmd); err != nil {
		return err
	}
	s.servers = append(s.servers, started)
	go func() {
		_ = started.cmd.Wait()
		close(started.ended)
	}()
	return nil
}

func pinned(cpu int, args []string) []string {
	return append([]string{"-c", strconv.Itoa(cpu)}, args...)
}

// ready calls check until it succeeds.
func (s *side) ready(ctx context.Context, check func(context.Context, *side) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := check(ctx, s)
		if err == nil {
			return nil
		}
		for _, server := range s.servers {
			if server.hasEnded() {
				return fmt.Errorf("%s has ended: %s", server.name, server.said())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("servers do not answer within %s: %w", patience, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *server) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// said is the end of the server's output.
func (s *server) said() []byte {
	const most = 2000
	b, _ := os.ReadFile(s.log)
	return bytes.TrimSpace(b[max(0, len(b)-most):])
}

// stop also removes the files, to free the space for the next program. It returns an error for a server that
// had ended before.
func (s *side) stop() (err error) {
	for _, server := range s.servers {
		if server.hasEnded() {
			err = errors.Join(err, fmt.Errorf("%s, %s has ended meanwhile: %s", s.variant, server.name, server.said()))
			continue
		}
		_ = server.cmd.Process.Signal(server.end)
		select {
		case <-server.ended:
		case <-time.After(patience):
			_ = server.cmd.Process.Kill()
			err = errors.Join(err, fmt.Errorf("%s, %s does not end: %s", s.variant, server.name, server.said()))
		}
	}
	s.servers = nil
	return errors.Join(err, os.RemoveAll(s.dir))
}

// client runs a program in the client's container, and returns its output.
func (s *side) client(ctx context.Context, cpu int, args ...string) (string, error) {
	out, err := s.pods.Client.Output(ctx, "taskset", pinned(cpu, args)...)
	if err != nil {
		return "", fmt.Errorf("%s: %w %s", filepath.Base(args[0]), err, out)
	}
	return string(out), nil
}

// at is a port of the server's container.
func (s *side) at(port uint16) string { return netip.AddrPortFrom(s.pods.Server.IP4(), port).String() }
