// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/tap"
	"github.com/sockmap-cni/sockmap-cni/test/bench/place"
)

// ringBytes is large enough for the messages that come while the reader does not run.
const ringBytes = 64 << 20

// node has what one run needs of the machine: its own bpffs and cgroup, and a program in the cgroup that
// sends and receives.
type node struct {
	place.Place
	state   string
	verdict *ebpf.Program
	ask     io.Writer
	answers *bufio.Reader
}

// openNode makes a node. The caller closes it, after an error, too.
func openNode() (*node, error) {
	n := &node{}
	mount, err := cgroup.FindMount()
	if err != nil {
		return n, err
	}
	path, err := n.Cgroup(mount.Path, "tap-bench-")
	if err != nil {
		return n, err
	}
	group, id, err := cgroup.Open(path)
	if err != nil {
		return n, err
	}
	n.Later(group.Close)
	if err := n.load(group, id); err != nil {
		return n, err
	}
	return n, n.startChild(group)
}

func (n *node) load(group *os.File, id uint64) (err error) {
	if n.state, err = n.StateDir("tap-bench-"); err != nil {
		return err
	}
	// Without guards, so that the verdict does the same for each message on every kernel.
	d, err := datapath.Load(n.state, datapath.Settings{
		MaxSockets: 64, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, Version: "tap-bench",
		WithoutGuards: datapath.Guards[:],
	})
	if err != nil {
		return err
	}
	n.Later(func() error { return errors.Join(d.Close(), datapath.Unload(n.state, true)) })
	if _, err := d.Attach(group, datapath.LinkKey{CgroupID: id, Manual: true}); err != nil {
		return err
	}
	pin := filepath.Join(n.state, fmt.Sprintf("v%d", datapath.ABI), "verdict")
	if n.verdict, err = ebpf.LoadPinnedProgram(pin, nil); err != nil {
		return fmt.Errorf("open %s: %w", pin, err)
	}
	n.Later(n.verdict.Close)
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return fmt.Errorf("turn on run times: %w", err)
	}
	n.Later(stats.Close)
	return nil
}

// startChild starts this program again as the one that sends and receives, in the cgroup and in its own
// network namespace.
func (n *node) startChild(group *os.File) error {
	cmd := place.Child(group, childVariable+"=1")
	cmd.Stderr = os.Stderr
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
	n.Later(func() error { return errors.Join(in.Close(), cmd.Wait()) })
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
