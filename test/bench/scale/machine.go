// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/bench/pods"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// machine also makes sure that containers are accelerated at all, before anything is measured.
func (s *suite) machine(ctx context.Context) (m result.Machine, err error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, err
	}
	m = result.Machine{
		Kernel: unix.ByteSliceToString(name.Release[:]), CPU: cpuName(), CPUs: runtime.NumCPU(),
		MemoryMiB: int(uint64(info.Totalram) * uint64(info.Unit) >> 20), Guards: []string{},
	}
	node, err := pods.Node(ctx, &s.log)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	if _, err := pods.New(ctx, node, "probe", 0, true); err != nil {
		return m, err
	}
	d, err := datapath.Open(node.BPFFS())
	if err != nil {
		return m, err
	}
	defer d.Close()
	states, err := d.GuardStates()
	for _, g := range states {
		if g.Active {
			m.Guards = append(m.Guards, g.Name)
		}
	}
	return m, err
}

func cpuName() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // of some machines it has no name
	for line := range strings.Lines(string(b)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
