// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// A kernel that loads no tracing programs cannot show such a call. One that loads them refuses the guard.
func TestObserversCallNoHelperOfOtherPrograms(t *testing.T) {
	spec, err := bpf.LoadGuard()
	if err != nil {
		t.Fatal(err)
	}
	tracing := 0
	for name, prog := range spec.Programs {
		if prog.Type != ebpf.Tracing {
			continue
		}
		tracing++
		for _, ins := range prog.Instructions {
			if ins.IsBuiltinCall() && asm.BuiltinFunc(ins.Constant) == asm.FnKtimeGetCoarseNs {
				t.Errorf("%s calls %v, which is not for tracing programs", name, asm.FnKtimeGetCoarseNs)
			}
		}
	}
	if tracing == 0 {
		t.Error("no tracing program")
	}
}
