// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// release is the first of a line of kernel.org.
type release struct{ major, minor int }

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

func (r release) newer(than release) bool {
	return r.major > than.major || r.major == than.major && r.minor > than.minor
}

// helperSince is the first kernel that has each helper for all types of our programs that call it.
var helperSince = map[asm.BuiltinFunc]release{
	asm.FnMapLookupElem: {3, 19}, asm.FnMapUpdateElem: {3, 19}, asm.FnMapDeleteElem: {3, 19},
	asm.FnKtimeGetNs: {5, 8}, asm.FnGetCurrentPidTgid: {5, 8}, asm.FnGetCurrentTask: {5, 8},
	asm.FnProbeWriteUser: {4, 8}, asm.FnSetsockopt: {4, 13}, asm.FnGetsockopt: {4, 15},
	asm.FnSockOpsCbFlagsSet: {4, 16}, asm.FnMsgPullData: {4, 17}, asm.FnSockHashUpdate: {4, 18},
	asm.FnMsgRedirectHash: {4, 18}, asm.FnSkStorageGet: {5, 11}, asm.FnSkStorageDelete: {5, 11},
	asm.FnSendSignal: {5, 3}, asm.FnJiffies64: {5, 6}, asm.FnProbeReadUser: {5, 8},
	asm.FnProbeReadKernel: {5, 8},
	asm.FnSeqWrite:        {5, 7}, asm.FnRingbufReserve: {5, 8}, asm.FnRingbufSubmit: {5, 8},
	asm.FnRingbufDiscard: {5, 8}, asm.FnRingbufQuery: {5, 8}, asm.FnSkcToTcpSock: {5, 9},
	asm.FnGetCurrentTaskBtf: {5, 11}, asm.FnSockFromFile: {5, 11}, asm.FnKtimeGetCoarseNs: {5, 11},
	asm.FnGetNetnsCookie: {5, 15},
	asm.FnTaskPtRegs:     {5, 15}, asm.FnFindVma: {5, 17}, asm.FnLoop: {5, 17}, asm.FnSetRetval: {5, 18},
}

// needs has, for each program, the oldest line of kernels with all of its helpers; docs/KERNELS.md has the
// consequences. A program that is not listed must use only helpers that every kernel in use has.
var needs = map[string]release{
	bpf.SockmapProgSockOps: {5, 15}, bpf.SockmapProgSockOpsAny: {5, 15}, bpf.SockmapProgVerdict: {5, 11},
	bpf.SockmapProgRearm: {5, 11},
	bpf.ListProgListTcp:  {5, 11}, bpf.ListProgListFlows: {5, 9}, bpf.EvictProgEvictTcp: {5, 15},
	bpf.GuardProgRefuseOption: {5, 18}, bpf.GuardProgCorrectAnswer: {5, 11},
	bpf.GuardProgAnswerSend: {5, 17}, bpf.GuardProgAnswerReceive: {5, 9}, bpf.GuardProgObserveSend: {5, 11},
	bpf.GuardProgObserveReceive: {5, 11}, bpf.GuardProgRefuseMapping: {5, 9},
	bpf.GuardProgReceive: {5, 11}, bpf.GuardProgSend: {5, 17}, bpf.GuardProgRefuseSpliceLsm: {5, 15},
	bpf.GuardProgCorrectInq:   {5, 17},
	bpf.GuardProgRefuseSplice: {5, 11}, bpf.GuardProgRefuseSpliceFile: {5, 15},
	bpf.GuardProgEnterRingSplice: {5, 8}, bpf.GuardProgLeaveRingSplice: {5, 8},
}

// The helpers decide which kernels take a program: another helper also needs a change of the documents.
func TestProgramsNeedTheDocumentedKernels(t *testing.T) {
	for _, load := range []func() (*ebpf.CollectionSpec, error){bpf.LoadSockmap, bpf.LoadList, bpf.LoadEvict,
		bpf.LoadGuard} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
			got, err := oldestFor(spec.Programs[name])
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if want, said := needs[name]; said && got != want {
				t.Errorf("%s needs Linux %s, and %s is said", name, got, want)
			}
		}
	}
}

func oldestFor(p *ebpf.ProgramSpec) (oldest release, err error) {
	for _, i := range p.Instructions {
		if !i.IsBuiltinCall() {
			continue
		}
		since, ok := helperSince[asm.BuiltinFunc(i.Constant)]
		if !ok {
			return oldest, fmt.Errorf("it is not said since when there is %v", asm.BuiltinFunc(i.Constant))
		}
		if p.Type == ebpf.Tracing && p.AttachType == ebpf.AttachTraceIter && i.Constant == int64(asm.FnSetsockopt) {
			since = release{5, 15} // of the iterator over TCP sockets
		}
		if since.newer(oldest) {
			oldest = since
		}
	}
	return oldest, nil
}
