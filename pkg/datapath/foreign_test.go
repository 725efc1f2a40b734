// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

func TestOthersListsForeignProgramsAndSockmaps(t *testing.T) {
	d := load(t, defaults)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "their_sockops", Type: ebpf.SockOps, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Name: "their_sockmap", Type: ebpf.SockMap, KeySize: 4,
		ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	all, err := d.Others()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Other{{"their_sockops", "SockOps"}, {"their_sockmap", "SockMap"}} {
		if !slices.Contains(all, want) {
			t.Errorf("no %v among %v", want, all)
		}
	}
	own, err := d.ours()
	if err != nil {
		t.Fatal(err)
	}
	for name := range map[string]bool{bpf.SockmapProgSockOps: true, bpf.SockmapProgVerdict: true} {
		p, err := d.program(name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		if !own.uses(info) {
			t.Errorf("%s counts as somebody else's", name)
		}
	}
}
