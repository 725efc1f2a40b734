// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
	"golang.org/x/sys/unix"
)

// From linux/bpf.h and the layout of struct bpf_sock_ops.
const (
	opActive, opPassive, opRTT = 4, 5, 12
	flagState, flagRTT         = 1 << 2, 1 << 3
	cbFlagsOffset              = 84
)

// foreign is a sock_ops program of another component.
type foreign struct {
	*ebpf.Program
	counter *ebpf.Map
}

// foreignProgram sets flags at the end of each handshake, in addition to those that are set or instead of
// them, and counts RTT callbacks. It may refer to another map.
func foreignProgram(t testing.TB, flags int32, beside bool, uses ...*ebpf.Map) foreign {
	t.Helper()
	counter, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	set := asm.Instructions{asm.Mov.Imm(asm.R2, 0)}
	if beside {
		set = asm.Instructions{asm.LoadMem(asm.R2, asm.R6, cbFlagsOffset, asm.Word)}
	}
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R1, 0, asm.Word),
	}
	for _, m := range uses {
		ins = append(ins, asm.LoadMapPtr(asm.R1, m.FD()))
	}
	ins = append(ins,
		asm.JEq.Imm(asm.R7, opRTT, "count"),
		asm.JEq.Imm(asm.R7, opActive, "set"),
		asm.JNE.Imm(asm.R7, opPassive, "out"),
	)
	set[0] = set[0].WithSymbol("set")
	ins = append(ins, set...)
	ins = append(ins,
		asm.Or.Imm(asm.R2, flags),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnSockOpsCbFlagsSet.Call(),
		asm.Ja.Label("out"),
		asm.StoreImm(asm.R10, -4, 0, asm.Word).WithSymbol("count"),
		asm.LoadMapPtr(asm.R1, counter.FD()),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
	)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: bpftest.Name, Type: ebpf.SockOps, License: "GPL",
		Instructions: ins})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close(); counter.Close() })
	return foreign{p, counter}
}

func (f foreign) rtts(t testing.TB) (n uint64) {
	t.Helper()
	if err := f.counter.Lookup(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// attach returns a function that detaches it.
func (f foreign) attach(t testing.TB, dir *os.File) (detach func()) {
	t.Helper()
	return bpftest.Attach(t, f.Program, dir.Name())
}

func bytesWaiting(t testing.TB, fd int) (n int) {
	t.Helper()
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// takingProgram puts client sockets into a sockhash of its own, which has a verdict program, and keeps the
// kernel's result.
func takingProgram(t testing.TB) (f foreign, answers *ebpf.Map) {
	t.Helper()
	theirs := bpftest.Sockhash(t)
	verdict, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SkMsg, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: theirs.FD(), Program: verdict,
		Attach: ebpf.AttachSkMsgVerdict})
	if err != nil {
		t.Fatal(err)
	}
	answers, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "takes", Type: ebpf.SockOps, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R7, asm.R1, 0, asm.Word),
			asm.JNE.Imm(asm.R7, opActive, "out"),
			asm.StoreImm(asm.R10, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R2, theirs.FD()),
			asm.Mov.Reg(asm.R3, asm.R10),
			asm.Add.Imm(asm.R3, -4),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnSockHashUpdate.Call(),
			asm.StoreMem(asm.R10, -16, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, answers.FD()),
			asm.Mov.Reg(asm.R2, asm.R10),
			asm.Add.Imm(asm.R2, -4),
			asm.Mov.Reg(asm.R3, asm.R10),
			asm.Add.Imm(asm.R3, -16),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnMapUpdateElem.Call(),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close(); verdict.Close(); answers.Close() })
	return foreign{Program: p}, answers
}
