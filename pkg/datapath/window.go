// SPDX-License-Identifier: Apache-2.0

package datapath

// How windows grow: the numbers of bpf/window.h.
const (
	firstBytes    = 256 << 10
	firstMessages = 128
	messageBytes  = 1 << 10 // of kernel memory that a message costs beside its bytes
	windowMax     = 6
	podFlows      = 64 // so many flows to one pod can have the whole window
)

// hazardFionreadTCP is HAZARD_FIONREAD_TCP of bpf/abi.h.
const hazardFionreadTCP = 1 << 2

// windowGrowth returns by how many bytes a window that has grown so often is larger than the first.
func windowGrowth(times uint8) int64 {
	return (firstBytes + firstMessages*messageBytes) * (1<<(2*min(times, windowMax)) - 1)
}

// firstWindow returns how often the window of a new flow counts as grown.
func (c Config) firstWindow() uint8 {
	if c.Hazards&hazardFionreadTCP != 0 {
		return 1
	}
	return 0
}

// windowBudget returns the bytes by which the windows of all flows to one pod may grow.
func (c Config) windowBudget() int64 {
	return podFlows * (int64(c.MaxBacklogBytes) + int64(c.MaxBacklogMessages)*messageBytes)
}
