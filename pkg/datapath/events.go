// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Event is something that happens seldom and is counted for the node since loading.
type Event uint32

// See enum event in bpf/abi.h.
const (
	EventRendezvousLost  = Event(bpfEventEVENT_RENDEZVOUS_LOST)
	EventSpliceRefused   = Event(bpfEventEVENT_SPLICE_REFUSED)
	EventReceiveAnswered = Event(bpfEventEVENT_RECEIVE_ANSWERED)
	EventSendAnswered    = Event(bpfEventEVENT_SEND_ANSWERED)
	EventMappingRefused  = Event(bpfEventEVENT_MAPPING_REFUSED)
	EventHabitNoted      = Event(bpfEventEVENT_HABIT_NOTED)
	EventBlockingNoted   = Event(bpfEventEVENT_BLOCKING_NOTED)
	EventOptionRefused   = Event(bpfEventEVENT_OPTION_REFUSED)
	EventAnswerCorrected = Event(bpfEventEVENT_ANSWER_CORRECTED)
	EventFlagsLost       = Event(bpfEventEVENT_FLAGS_LOST)
	EventReaderWoken     = Event(bpfEventEVENT_READER_WOKEN)
	EventWindowRefused   = Event(bpfEventEVENT_WINDOW_REFUSED)
	EventInqCorrected    = Event(bpfEventEVENT_INQ_CORRECTED)
)

// Events reads how often each has happened.
func (d *Datapath) Events() (map[Event]uint64, error) {
	m, err := d.mapOf(bpfMapEvents, unsafe.Sizeof(uint64(0)))
	if err != nil {
		return nil, err
	}
	all := make(map[Event]uint64, bpfEventEVENT_MAX)
	for e := range Event(bpfEventEVENT_MAX) {
		var perCPU []uint64
		if err := m.Lookup(uint32(e), &perCPU); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		for _, n := range perCPU {
			all[e] += n
		}
	}
	return all, nil
}

// resetEvents forgets what the probes have made happen.
func (o *loaded) resetEvents() error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	for e := range uint32(bpfEventEVENT_MAX) {
		if err := o.Events.Put(e, make([]uint64, cpus)); err != nil {
			return fmt.Errorf("reset events: %w", err)
		}
	}
	return nil
}
