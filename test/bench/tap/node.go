// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/tap"
)

// ringBytes is large enough for the messages that come while the reader does not run.
const ringBytes = 64 << 20

// node has what one run needs of the machine: its own bpffs and cgroup, and a program in the cgroup that
// sends and receives.
type node struct {
	undo    []func() error
	state   string
	verdict *ebpf.Program
	ask     io.Writer
	answers *bufio.Reader
}

func (n *node) later(f func() error) { n.undo = append(n.undo, f) }

func (n *node) close() error {
	var errs []error
	for i := len(n.undo) - 1; i >= 0; i-- {
		errs = append(errs, n.undo[i]())
	}
	return errors.Join(errs...)
}

func openNode() (n *node, err error) {
	n = &node{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	mount, err := cgroup.FindMount()
	if err != nil {
		return n, err
	}
	path, err := os.MkdirTemp(mount.Path, "tap-bench-")
	if err != nil {
		return n, fmt.Errorf("make cgroup: %w", err)
	}
	n.later(func() error { return os.Remove(path) })
	group, id, err := cgroup.Open(path)
	if err != nil {
		return n, err
	}
	n.later(group.Close)
	if err := n.load(group, id); err != nil {
		return n, err
	}
	return n, n.startChild(group)
}

func (n *node) load(group *os.File, id uint64) error {
	dir, err := os.MkdirTemp("", "tap-bench-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	n.later(func() error { return os.Remove(dir) })
	if err := unix.Mount("tap-bench", dir, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	n.later(func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
	n.state = filepath.Join(dir, "sockmap")
	if err := os.Mkdir(n.state, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	// Without guards, so that the verdict does the same for each message on every kernel.
	d, err := datapath.Load(n.state, datapath.Settings{
		MaxSockets: 64, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, Version: "tap-bench",
		WithoutGuards: datapath.Guards[:],
	})
	if err != nil {
		return err
	}
	n.later(func() error { return errors.Join(d.Close(), datapath.Unload(n.state, true)) })
	if _, err := d.Attach(group, datapath.LinkKey{CgroupID: id, Manual: true}); err != nil {
		return err
	}
	pin := filepath.Join(n.state, fmt.Sprintf("v%d", datapath.ABI), "verdict")
	if n.verdict, err = ebpf.LoadPinnedProgram(pin, nil); err != nil {
		return fmt.Errorf("open %s: %w", pin, err)
	}
	n.later(n.verdict.Close)
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return fmt.Errorf("turn on run times: %w", err)
	}
	n.later(stats.Close)
	return nil
}

// startChild starts this program again as the one that sends and receives, in the cgroup and in its own
// network namespace.
func (n *node) startChild(group *os.File) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Stderr = []string{childVariable + "=1"}, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(group.Fd()), Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	n.ask, n.answers = in, bufio.NewReader(out)
	n.later(func() error { return errors.Join(in.Close(), cmd.Wait()) })
	return nil
}

// send makes the child send messages, and waits until they have been read.
func (n *node) send(messages, size int) error {
	if _, err := fmt.Fprintln(n.ask, messages, size); err != nil {
		return fmt.Errorf("send an order to the child: %w", err)
	}
	var sent int
	if _, err := fmt.Fscanln(n.answers, &sent); err != nil || sent != messages {
		return fmt.Errorf("the child sent %d of %d messages: %w", sent, messages, err)
	}
	return nil
}

func (n *node) measure(s setup, c *column, messages, size int) (err error) {
	if s.filter.Snap > 0 {
		l, err := listen(n.state, s.filter, c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l()) }()
	}
	before, err := n.verdict.Stats()
	if err != nil {
		return fmt.Errorf("read the run time of the verdict: %w", err)
	}
	if err := n.send(messages, size); err != nil {
		return err
	}
	after, err := n.verdict.Stats()
	if err != nil {
		return fmt.Errorf("read the run time of the verdict: %w", err)
	}
	if runs := after.RunCount - before.RunCount; runs != uint64(messages) {
		return fmt.Errorf("the verdict ran %d times for %d messages", runs, messages)
	}
	c.nanos = append(c.nanos, float64((after.Runtime-before.Runtime).Nanoseconds())/float64(messages))
	return nil
}

// listen reads the copies until the returned function is called.
func listen(state string, f datapath.TapFilter, c *column) (end func() error, err error) {
	s, err := tap.Open(context.Background(), state, f, ringBytes)
	if err != nil {
		return nil, err
	}
	var (
		reader  sync.WaitGroup
		readErr error
		stop    = make(chan struct{})
	)
	reader.Go(func() { readErr = count(s, c, stop) })
	return func() error {
		err := s.Stop()
		close(stop)
		reader.Wait()
		drops, dropErr := s.Drops()
		c.drops.Messages += drops.Messages
		c.drops.Bytes += drops.Bytes
		return errors.Join(err, readErr, dropErr, s.Close())
	}, nil
}

// count reads until nothing is left after stop.
func count(s *tap.Session, c *column, stop <-chan struct{}) error {
	for {
		var chunk datapath.TapChunk
		err := s.Read(&chunk, time.Now().Add(50*time.Millisecond))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			select {
			case <-stop:
				return nil
			default:
			}
		case err != nil:
			return err
		case chunk.Offset == 0:
			c.messages++
		}
	}
}
