// SPDX-License-Identifier: Apache-2.0

package guards

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// program has the kernel's counts of one BPF program. They include all runs on the node while it was loaded.
type program struct {
	Name  string  `json:"name"`
	Runs  uint64  `json:"runs"`
	Nanos float64 `json:"nanosecondsPerRun"`
}

// runTimes measures once more, with the kernel's clock in each program, which costs more than most programs.
func (n *node) runTimes(s setup) (programs []program, err error) {
	before, err := programIDs()
	if err != nil {
		return nil, err
	}
	err = n.with(s, func(*datapath.Datapath) error {
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		if err != nil {
			return fmt.Errorf("turn on run times: %w", err)
		}
		_, err = n.child(s.load)
		if err := errors.Join(err, stats.Close()); err != nil {
			return err
		}
		now, err := programIDs()
		if err != nil {
			return err
		}
		for _, id := range now {
			if !slices.Contains(before, id) {
				if programs, err = appendRunTime(programs, id); err != nil {
					return err
				}
			}
		}
		return nil
	})
	slices.SortFunc(programs, func(a, b program) int { return strings.Compare(a.Name, b.Name) })
	return programs, err
}

func programIDs() (ids []ebpf.ProgramID, err error) {
	for id := ebpf.ProgramID(0); ; ids = append(ids, id) {
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, fs.ErrNotExist) {
			return ids, nil
		} else if err != nil {
			return nil, fmt.Errorf("list programs: %w", err)
		}
	}
}

// appendRunTime leaves out programs that never ran, and those that are unloaded by now.
func appendRunTime(programs []program, id ebpf.ProgramID) ([]program, error) {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return programs, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open program %d: %w", id, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("read the information on program %d: %w", id, err)
	}
	s, err := p.Stats()
	if err != nil {
		return nil, fmt.Errorf("read the run time of program %s: %w", info.Name, err)
	}
	if s.RunCount == 0 {
		return programs, nil
	}
	return append(programs, program{info.Name, s.RunCount,
		float64(s.Runtime.Nanoseconds()) / float64(s.RunCount)}), nil
}
