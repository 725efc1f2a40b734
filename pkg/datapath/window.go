// SPDX-License-Identifier: Apache-2.0

package datapath

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"

// windowGrowth returns by how many bytes a window that has grown so often is larger than the first, see
// bpf/window.h.
func windowGrowth(times uint8) int64 {
	const first = int64(bpf.SockmapWindowNumberFIRST_BYTES +
		bpf.SockmapWindowNumberFIRST_MESSAGES*bpf.SockmapWindowNumberMESSAGE_BYTES)
	return first * (1<<(2*min(times, uint8(bpf.SockmapWindowNumberWINDOW_MAX))) - 1)
}

// firstWindow returns how often the window of a new flow counts as grown.
func (c Config) firstWindow() uint8 {
	if c.Hazards&uint32(bpf.SockmapAskedHazardHAZARD_FIONREAD_TCP) != 0 {
		return 1
	}
	return 0
}

// windowBudget returns the bytes by which the windows of all flows to one pod may grow.
func (c Config) windowBudget() int64 {
	whole := int64(c.MaxBacklogBytes) + int64(c.MaxBacklogMessages)*int64(bpf.SockmapWindowNumberMESSAGE_BYTES)
	return int64(bpf.SockmapWindowNumberPOD_FLOWS) * whole
}
