// SPDX-License-Identifier: Apache-2.0

package stopped

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/bench/place"
)

const (
	childVariable = "SOCKMAP_BENCH_STOPPED"
	legacyMount   = "/sys/fs/cgroup/memory" // mount of cgroup v1
	legacyLimit   = "memory.kmem.tcp.limit_in_bytes"
)

// node has what one run needs of the machine: a bpffs, an accelerated cgroup and one that is not.
type node struct {
	place.Place
	d                  *datapath.Datapath
	plain, accelerated string // cgroup v2
	idle               int64  // TCP's memory, at the least
	legacy             string // cgroup v1 that accounts for socket memory; empty: none
}

// openNode makes a node. The caller closes it, after an error, too.
func openNode(sockets int) (*node, error) {
	n := &node{}
	mount, err := cgroup.FindMount()
	if err != nil {
		return n, err
	}
	// Fails if it is enabled already, or if the controllers are those of cgroup v1.
	_ = os.WriteFile(mount.Path+"/cgroup.subtree_control", []byte("+memory"), 0)
	for _, dir := range []*string{&n.plain, &n.accelerated} {
		if *dir, err = n.Cgroup(mount.Path, "stopped-bench-"); err != nil {
			return n, err
		}
	}
	if _, err := os.Stat(filepath.Join(legacyMount, legacyLimit)); err == nil {
		if n.legacy, err = n.Cgroup(legacyMount, "stopped-bench-"); err != nil {
			return n, err
		}
		// Any limit starts the accounting.
		if err := os.WriteFile(filepath.Join(n.legacy, legacyLimit), []byte(strconv.FormatInt(1<<50, 10)),
			0); err != nil {
			return n, fmt.Errorf("count socket memory: %w", err)
		}
	}
	return n, n.load(uint32(sockets))
}

func (n *node) load(sockets uint32) error {
	state, err := n.StateDir("stopped-bench-")
	if err != nil {
		return err
	}
	// The bounds are the plugin's defaults. Without guards, because they would need a reader that reads.
	n.d, err = datapath.Load(state, datapath.Settings{
		MaxSockets: sockets, MaxBacklogBytes: 8 << 20, MaxBacklogMessages: 4096, Version: "stopped-bench",
		WithoutGuards: datapath.Guards[:],
	})
	if err != nil {
		return err
	}
	n.Later(func() error { return errors.Join(n.d.Close(), datapath.Unload(state, true)) })
	group, id, err := cgroup.Open(n.accelerated)
	if err != nil {
		return err
	}
	defer group.Close()
	_, err = n.d.Attach(group, datapath.LinkKey{CgroupID: id, Manual: true})
	return err
}

// charged is the socket memory of a child in this cgroup.
func (n *node) charged(dir string) (int64, error) {
	if n.legacy != "" {
		b, err := os.ReadFile(filepath.Join(n.legacy, "memory.kmem.tcp.usage_in_bytes"))
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	}
	b, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "sock "); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, err
}

// quiet waits until the sockets of the last child are freed: TCP's memory is then hardly more than at first.
func (n *node) quiet() error {
	const enough = 8 << 20
	for range 100 {
		now, err := tcpMemory()
		if err != nil {
			return err
		}
		if n.idle == 0 || now < n.idle {
			n.idle = now + 1
		}
		if now < n.idle+enough {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// measure runs a child that does the work, and returns the growth of the kernel's memory while the child
// holds all connections.
func (n *node) measure(accelerated bool, w work) (g growth, err error) {
	dir := n.plain
	if accelerated {
		dir = n.accelerated
	}
	charged := func() (int64, error) { return n.charged(dir) }
	if err := n.quiet(); err != nil {
		return g, err
	}
	c, err := n.start(dir)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	before, err := settled(charged)
	if err != nil {
		return g, err
	}
	said, err := c.do(w)
	if err != nil {
		return g, err
	}
	after, err := settled(charged)
	g = after.minus(before)
	g.Child = said
	err = errors.Join(err,
		n.d.Flows(func(f datapath.Flow) bool { g.Redirected += int64(f.RedirectedBytes); return true }))
	return g, err
}

// process is a child: this program again, in a cgroup and in its own network namespace.
type process struct {
	*exec.Cmd
	ask     io.WriteCloser
	answers *json.Decoder
}

func (n *node) start(dir string) (*process, error) {
	group, _, err := cgroup.Open(dir)
	if err != nil {
		return nil, err
	}
	defer group.Close()
	p := &process{Cmd: place.Child(group, childVariable+"=1")}
	p.Stderr = os.Stderr
	if p.ask, err = p.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.answers = json.NewDecoder(out)
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	if n.legacy == "" {
		return p, nil
	}
	// It has no socket yet, because it waits for its work.
	err = os.WriteFile(filepath.Join(n.legacy, "cgroup.procs"), []byte(strconv.Itoa(p.Process.Pid)), 0)
	if err != nil {
		err = errors.Join(err, p.end())
	}
	return p, err
}

func (p *process) do(w work) (said did, err error) {
	if err := json.NewEncoder(p.ask).Encode(w); err != nil {
		return said, fmt.Errorf("send an order to the child: %w", err)
	}
	if err := p.answers.Decode(&said); err != nil {
		return said, fmt.Errorf("read the child's reply: %w", err)
	}
	return said, nil
}

// end makes the child close all connections, and waits until it has.
func (p *process) end() error { return errors.Join(p.ask.Close(), p.Wait()) }
