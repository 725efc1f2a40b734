// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Event is a rare event that is counted for the node since loading.
type Event uint32

// See enum event in bpf/abi.h.
const (
	EventRendezvousLost  = Event(bpf.SockmapEventEVENT_RENDEZVOUS_LOST)
	EventSpliceRefused   = Event(bpf.SockmapEventEVENT_SPLICE_REFUSED)
	EventReceiveAnswered = Event(bpf.SockmapEventEVENT_RECEIVE_ANSWERED)
	EventSendAnswered    = Event(bpf.SockmapEventEVENT_SEND_ANSWERED)
	EventMappingRefused  = Event(bpf.SockmapEventEVENT_MAPPING_REFUSED)
	EventHabitNoted      = Event(bpf.SockmapEventEVENT_HABIT_NOTED)
	EventBlockingNoted   = Event(bpf.SockmapEventEVENT_BLOCKING_NOTED)
	EventOptionRefused   = Event(bpf.SockmapEventEVENT_OPTION_REFUSED)
	EventAnswerCorrected = Event(bpf.SockmapEventEVENT_ANSWER_CORRECTED)
	EventFlagsLost       = Event(bpf.SockmapEventEVENT_FLAGS_LOST)
	EventReaderWoken     = Event(bpf.SockmapEventEVENT_READER_WOKEN)
	EventWindowRefused   = Event(bpf.SockmapEventEVENT_WINDOW_REFUSED)
	EventInqCorrected    = Event(bpf.SockmapEventEVENT_INQ_CORRECTED)
)

// Events returns the count of each event.
func (d *Datapath) Events() (map[Event]uint64, error) {
	m, err := d.mapOf(bpf.SockmapMapEvents, unsafe.Sizeof(uint64(0)))
	if err != nil {
		return nil, err
	}
	all := make(map[Event]uint64, bpf.SockmapEventEVENT_MAX)
	for e := range Event(bpf.SockmapEventEVENT_MAX) {
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

// resetEvents sets the counts to 0, after probes have caused events.
func (o *loaded) resetEvents() error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	for e := range uint32(bpf.SockmapEventEVENT_MAX) {
		if err := o.Events.Put(e, make([]uint64, cpus)); err != nil {
			return fmt.Errorf("reset events: %w", err)
		}
	}
	return nil
}
