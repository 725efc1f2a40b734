// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// From linux/bpf.h and the layout of struct bpf_sock_ops.
const (
	opActive, opPassive, opState, opRTT = 4, 5, 10, 12
	flagState, flagRTT                  = 1 << 2, 1 << 3
	cbFlagsOffset                       = 84
)

// rule describes how the foreign program changes a socket's callback flags at the end of the handshake.
type rule struct {
	Keep uint32 // flags of the socket to keep
	Set  uint32 // flags to set
}

var (
	beside = rule{^uint32(0), flagState | flagRTT}
	// absolute are the rules of programs that ignore others. The last one clears every flag of others.
	absolute = []rule{{0, flagState | flagRTT}, {0, flagState}, {0, 0}}
)

// foreign is a sock_ops program that belongs to another component, above all pods. It requests its own
// callbacks, and counts them.
type foreign struct {
	program *ebpf.Program
	counter *ebpf.Map
	rules   *ebpf.Map
	dir     string
	link    link.Link // nil: it is not attached now
}

func newForeign(dir string) (_ *foreign, err error) {
	f := &foreign{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	spec := ebpf.MapSpec{Name: "their_counter", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}
	if f.counter, err = ebpf.NewMap(&spec); err != nil {
		return nil, fmt.Errorf("make map of foreign program: %w", err)
	}
	spec.Name = "their_rules"
	if f.rules, err = ebpf.NewMap(&spec); err != nil {
		return nil, fmt.Errorf("make map of foreign program: %w", err)
	}
	f.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebodys", Type: ebpf.SockOps, License: "GPL", Instructions: f.instructions(),
	})
	if err != nil {
		return nil, fmt.Errorf("load foreign program: %w", err)
	}
	return f, nil
}

func (f *foreign) instructions() asm.Instructions {
	lookUp := func(m *ebpf.Map, label string) asm.Instructions {
		return asm.Instructions{
			asm.StoreImm(asm.R10, -4, 0, asm.Word).WithSymbol(label),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Reg(asm.R2, asm.R10),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
		}
	}
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R1, 0, asm.Word),
		asm.JEq.Imm(asm.R7, opRTT, "count"),
		asm.JEq.Imm(asm.R7, opState, "count"),
		asm.JEq.Imm(asm.R7, opActive, "set"),
		asm.JNE.Imm(asm.R7, opPassive, "out"),
	}
	ins = append(ins, lookUp(f.rules, "set")...)
	ins = append(ins,
		asm.LoadMem(asm.R2, asm.R6, cbFlagsOffset, asm.Word),
		asm.LoadMem(asm.R3, asm.R0, 0, asm.Word),
		asm.And.Reg(asm.R2, asm.R3),
		asm.LoadMem(asm.R3, asm.R0, 4, asm.Word),
		asm.Or.Reg(asm.R2, asm.R3),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnSockOpsCbFlagsSet.Call(),
		asm.Ja.Label("out"),
	)
	ins = append(ins, lookUp(f.counter, "count")...)
	return append(ins,
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
	)
}

func (f *foreign) close() error {
	err := f.detach()
	if f.program != nil {
		err = errors.Join(err, f.program.Close())
	}
	if f.rules != nil {
		err = errors.Join(err, f.rules.Close())
	}
	return errors.Join(err, f.counter.Close())
}

func (f *foreign) follow(r rule) error {
	if err := f.rules.Put(uint32(0), r); err != nil {
		return fmt.Errorf("change foreign program: %w", err)
	}
	return nil
}

// attach attaches the program with a rule that keeps the flags of others: before one of our programs notices
// it, none runs after it that could request them again.
func (f *foreign) attach() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	defer dir.Close()
	if err := f.follow(beside); err != nil {
		return err
	}
	f.link, err = link.AttachRawLink(link.RawLinkOptions{
		Target: int(dir.Fd()), Program: f.program, Attach: ebpf.AttachCGroupSockOps,
	})
	if err != nil {
		return fmt.Errorf("attach foreign program: %w", err)
	}
	return nil
}

func (f *foreign) detach() error {
	if f.link == nil {
		return nil
	}
	err := f.link.Close()
	f.link = nil
	return err
}

// change detaches an attached program or changes its rule. It reports whether it has.
func (f *foreign) change(rng *rand.Rand) (bool, error) {
	switch {
	case f.link == nil:
		return false, nil
	case rng.IntN(3) == 0:
		return true, f.detach()
	case rng.IntN(2) == 0:
		return true, f.follow(beside)
	}
	return true, f.follow(absolute[rng.IntN(len(absolute))])
}

func (f *foreign) callbacks() (n uint64, err error) {
	if err := f.counter.Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("read counter of foreign program: %w", err)
	}
	return n, nil
}
