// SPDX-License-Identifier: Apache-2.0

package guards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/bench/place"
)

// childVariable is the environment variable with the number of batches, for a process that measures in the
// cgroup in which it was started.
const childVariable = "GUARD_BENCH_MEASURE"

// childLimit bounds a child on an emulated machine.
const childLimit = 5 * time.Minute

// unhookTime: the kernel removes hooks a moment after their pins are removed.
const unhookTime = 200 * time.Millisecond

// setup describes the programs that are loaded while calls are measured.
type setup struct {
	name    string
	load    bool     // load the data path
	without []string // guards that are left out
	rest    bool     // no cgroup has a link, so that the guards rest, and nothing is redirected
}

// restName is the name of the setup in which all guards rest. It is compared with a node without the data
// path.
const restName = "all, resting"

// setupsFor leaves out guards that the kernel refused: all others alone, and in the last setup together.
func setupsFor(refused []datapath.GuardState) []setup {
	setups := []setup{{name: "nothing"}, {name: "no guard", load: true, without: datapath.Guards[:]}}
	for _, g := range datapath.Guards {
		if !isRefused(refused, g) {
			setups = append(setups, setup{name: g, load: true, without: allBut(g)})
		}
	}
	return append(setups, setup{name: restName, load: true, rest: true}, setup{name: "all", load: true})
}

func isRefused(refused []datapath.GuardState, name string) bool {
	for _, r := range refused {
		if r.Name == name {
			return true
		}
	}
	return false
}

// allBut returns every guard except this one and those that it needs.
func allBut(name string) (others []string) {
	for _, g := range datapath.Guards {
		if g != name && !(name == datapath.GuardBlocking && g == datapath.GuardObserve) {
			others = append(others, g)
		}
	}
	return others
}

// node has what one run needs of the machine: its own bpffs and cgroup.
type node struct {
	place.Place
	state   string
	cgroup  *os.File
	id      uint64
	batches int
}

// openNode makes a node. The caller closes it, after an error, too.
func openNode(batches int) (*node, error) {
	n := &node{batches: batches}
	mount, err := cgroup.FindMount()
	if err != nil {
		return n, err
	}
	path, err := n.Cgroup(mount.Path, "guard-bench-")
	if err != nil {
		return n, err
	}
	if n.cgroup, n.id, err = cgroup.Open(path); err != nil {
		return n, err
	}
	n.Later(n.cgroup.Close)
	n.state, err = n.StateDir("guard-bench-")
	return n, err
}

// with loads the programs of the setup, on the cgroup, while f runs.
func (n *node) with(s setup, f func(d *datapath.Datapath) error) (err error) {
	if !s.load {
		return f(nil)
	}
	if err := os.MkdirAll(n.state, 0o700); err != nil { // Unload removes it
		return fmt.Errorf("make state directory: %w", err)
	}
	d, err := datapath.Load(n.state, datapath.Settings{
		MaxSockets: 4096, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, Version: "guard-bench",
		WithoutGuards: s.without,
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.Close(), datapath.Unload(n.state, true))
		time.Sleep(unhookTime)
	}()
	if s.rest {
		if _, err := d.RestGuards(); err != nil {
			return err
		}
		time.Sleep(unhookTime)
		return f(d)
	}
	if _, err := d.Attach(n.cgroup, datapath.LinkKey{CgroupID: n.id, Manual: true}); err != nil {
		return err
	}
	return f(d)
}

// refused lists the guards that this kernel refused.
func (n *node) refused() (refused []datapath.GuardState, err error) {
	err = n.with(setup{load: true}, func(d *datapath.Datapath) error {
		states, err := d.GuardStates()
		for _, s := range states {
			if !s.Active {
				refused = append(refused, s)
			}
		}
		return err
	})
	return refused, err
}

func (n *node) measure(s setup) (nanos map[string]float64, err error) {
	err = n.with(s, func(*datapath.Datapath) error {
		nanos, err = n.child(s.load && !s.rest)
		return err
	})
	return nanos, err
}

// child measures in its own process, whose sockets belong to the cgroup and to its own network namespace.
func (n *node) child(redirects bool) (nanos map[string]float64, err error) {
	cmd := place.Child(n.cgroup, fmt.Sprintf("%s=%d", childVariable, n.batches))
	if redirects {
		cmd.Env = append(cmd.Env, redirectVariable+"=1")
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	timer := time.AfterFunc(childLimit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("measure: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	if err := json.Unmarshal(out.Bytes(), &nanos); err != nil {
		return nil, fmt.Errorf("read measurements: %w", err)
	}
	return nanos, nil
}

func release() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("read the kernel's release: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}
