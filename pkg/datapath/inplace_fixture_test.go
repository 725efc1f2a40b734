// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"io"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// ofEachState runs instructions for each TCP socket that has a state. They find the address of the state in
// R6, of the tcp_sock in R7 and of the seq_file in R8, and jump to "out" or run to their end. It returns the
// text that they have written.
func ofEachState(t *testing.T, d *Datapath, what ...asm.Instruction) []byte {
	t.Helper()
	states, err := d.mapOf(bpf.SockmapMapStates, unsafe.Sizeof(bpf.SockmapSockState{}))
	if err != nil {
		t.Fatal(err)
	}
	before := asm.Instructions{
		asm.LoadMem(asm.R8, asm.R1, 0, asm.DWord), // meta
		asm.LoadMem(asm.R8, asm.R8, 0, asm.DWord), // seq
		asm.LoadMem(asm.R1, asm.R1, 8, asm.DWord), // sk_common
		asm.JEq.Imm(asm.R1, 0, "out"),
		asm.FnSkcToTcpSock.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R2, asm.R0),
		asm.LoadMapPtr(asm.R1, states.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Reg(asm.R6, asm.R0),
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "tcp", License: "GPL",
		Instructions: append(append(before, what...), asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), asm.Return()),
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer prog.Close()
	it, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	written, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

// observed writes what a guard would record of all passive ends. It writes in place, because changeState
// makes new storage, which the other end does not know.
func observed(t *testing.T, d *Datapath, reader, habits int32) {
	t.Helper()
	var s bpf.SockmapSockState
	ofEachState(t, d,
		asm.LoadMem(asm.R2, asm.R6, int16(unsafe.Offsetof(s.Role)), asm.Byte),
		asm.JNE.Imm(asm.R2, int32(RolePassive), "out"),
		asm.StoreImm(asm.R6, int16(unsafe.Offsetof(s.Reader)), int64(reader), asm.Word),
		asm.LoadMem(asm.R3, asm.R6, int16(unsafe.Offsetof(s.Habits)), asm.Word),
		asm.Or.Imm(asm.R3, habits),
		asm.StoreMem(asm.R6, int16(unsafe.Offsetof(s.Habits)), asm.R3, asm.Word),
	)
}

// greatestMark is the greatest TCP_NOTSENT_LOWAT of all ends, read from the kernel, because getsockopt hides
// ours.
func greatestMark(t *testing.T, d *Datapath) (mark uint32) {
	t.Helper()
	at := offsetOf(t, "tcp_sock", "notsent_lowat")
	written := ofEachState(t, d,
		asm.LoadMem(asm.R2, asm.R7, at, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.Mov.Imm(asm.R3, 4),
		asm.FnSeqWrite.Call(),
	)
	for ; len(written) >= 4; written = written[4:] {
		mark = max(mark, binary.NativeEndian.Uint32(written))
	}
	return mark
}

// offsetOf a member of a struct of this kernel, in bytes.
func offsetOf(t *testing.T, name, member string) int16 {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var s *btf.Struct
	if err := spec.TypeByName(name, &s); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Members {
		if m.Name == member {
			return int16(m.Offset.Bytes())
		}
	}
	t.Fatalf("struct %s has no %s", name, member)
	return 0
}
