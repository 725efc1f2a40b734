// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// release is the first of a line of kernel.org.
type release struct{ major, minor int }

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

func (r release) newer(than release) bool {
	return r.major > than.major || r.major == than.major && r.minor > than.minor
}

// helperSince tells since when a kernel has each helper for all types of our programs that call it.
var helperSince = map[asm.BuiltinFunc]release{
	asm.FnMapLookupElem: {3, 19}, asm.FnMapUpdateElem: {3, 19}, asm.FnMapDeleteElem: {3, 19},
	asm.FnKtimeGetNs: {5, 8}, asm.FnGetCurrentPidTgid: {5, 8}, asm.FnGetCurrentTask: {5, 8},
	asm.FnProbeWriteUser: {4, 8}, asm.FnSetsockopt: {4, 13}, asm.FnGetsockopt: {4, 15},
	asm.FnSockOpsCbFlagsSet: {4, 16}, asm.FnMsgPullData: {4, 17}, asm.FnSockHashUpdate: {4, 18},
	asm.FnMsgRedirectHash: {4, 18}, asm.FnSkStorageGet: {5, 11}, asm.FnSkStorageDelete: {5, 11},
	asm.FnSendSignal: {5, 3}, asm.FnJiffies64: {5, 6}, asm.FnProbeReadUser: {5, 8}, asm.FnProbeReadKernel: {5, 8},
	asm.FnSeqWrite: {5, 7}, asm.FnRingbufReserve: {5, 8}, asm.FnRingbufSubmit: {5, 8},
	asm.FnRingbufDiscard: {5, 8}, asm.FnRingbufQuery: {5, 8}, asm.FnSkcToTcpSock: {5, 9},
	asm.FnGetCurrentTaskBtf: {5, 11}, asm.FnSockFromFile: {5, 11}, asm.FnKtimeGetCoarseNs: {5, 11}, asm.FnGetNetnsCookie: {5, 15},
	asm.FnTaskPtRegs: {5, 15}, asm.FnFindVma: {5, 17}, asm.FnLoop: {5, 17}, asm.FnSetRetval: {5, 18},
}

// needs are the oldest lines that have all helpers of each program. docs/KERNELS.md says what follows. A program of which
// no line is said must do with those that every kernel in use has.
var needs = map[string]release{
	bpfProgSockOps: {5, 15}, bpfProgSockOpsAny: {5, 15}, bpfProgVerdict: {5, 11}, bpfProgRearm: {5, 11},
	listProgListTcp: {5, 11}, listProgListFlows: {5, 9}, evictProgEvictTcp: {5, 15},
	guardProgRefuseOption: {5, 18}, guardProgCorrectAnswer: {5, 11},
	guardProgAnswerSend: {5, 17}, guardProgAnswerReceive: {5, 9}, guardProgObserveSend: {5, 11},
	guardProgObserveReceive: {5, 11}, guardProgRefuseMapping: {5, 9},
	guardProgReceive: {5, 11}, guardProgSend: {5, 17}, guardProgRefuseSpliceLsm: {5, 15}, guardProgCorrectInq: {5, 17},
	guardProgRefuseSplice: {5, 11}, guardProgRefuseSpliceFile: {5, 15},
	guardProgEnterRingSplice: {5, 8}, guardProgLeaveRingSplice: {5, 8},
}

// The helpers decide which kernels take a program: whoever uses another one changes what the documents say.
func TestEachProgramNeedsTheKernelThatIsSaid(t *testing.T) {
	for _, load := range []func() (*ebpf.CollectionSpec, error){loadBpf, loadList, loadEvict, loadGuard} {
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
