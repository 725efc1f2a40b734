// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// action is what a guard does, as the programs count it.
type action struct {
	event       datapath.Event
	guard, name string
	meaning     string
}

func actions() []action {
	return []action{
		{datapath.EventSpliceRefused, datapath.GuardSplice, "refuse-splice", "splice(2) out of a redirected socket: EINVAL"},
		{datapath.EventHabitNoted, datapath.GuardObserve, "note-flags", "a program was seen to use MSG_WAITALL, MSG_TRUNC, MSG_OOB or splice(2): its flow stays on TCP"},
		{datapath.EventReceiveAnswered, datapath.GuardObserve, "answer-receive", "a receive with MSG_OOB, of no bytes, or after the peer has closed with bytes unread was answered as TCP does"},
		{datapath.EventSendAnswered, datapath.GuardObserve, "answer-send", "a send with MSG_FASTOPEN, from memory that is not mapped, or after the peer has closed with bytes unread was answered as TCP does"},
		{datapath.EventMappingRefused, datapath.GuardObserve, "refuse-mapping", "TCP_ZEROCOPY_RECEIVE: ENOPROTOOPT"},
		{datapath.EventBlockingNoted, datapath.GuardBlocking, "note-blocking", "a reader was seen to wait inside receive calls: its flow stays on TCP"},
		{datapath.EventOptionRefused, datapath.GuardOptions, "refuse-option", "an option that comes too late was refused: SO_ZEROCOPY, SO_PEEK_OFF, TCP_ULP or TCP_INQ"},
		{datapath.EventAnswerCorrected, datapath.GuardOptions, "correct-answer", "TCP_INFO or TCP_NOTSENT_LOWAT was answered as without sockmap"},
		{datapath.EventInqCorrected, datapath.GuardFionread, "correct-inq", "FIONREAD was answered with redirected bytes and those by TCP"},
	}
}

func (e emitter) events(counts map[datapath.Event]uint64) {
	e.emit(rendezvousLost, counts[datapath.EventRendezvousLost])
	e.emit(flagsLost, counts[datapath.EventFlagsLost])
	e.emit(readersWoken, counts[datapath.EventReaderWoken])
	e.emit(windowsRefused, counts[datapath.EventWindowRefused])
	for _, a := range actions() {
		e.emit(guardActions, counts[a.event], a.guard, a.name)
	}
}

// calls gives every command its histogram, so that a rate has where to begin; errors begin with the first.
func (e emitter) calls(counts map[datapath.CallKey]datapath.CallSums) {
	bounds := datapath.CallBounds()
	for _, command := range datapath.CallCommands() {
		var (
			n       uint64
			seconds float64
			within  = make([]uint64, len(bounds))
		)
		for k, sums := range counts {
			if k.Command != command {
				continue
			}
			n += sums.Calls
			seconds += sums.Total.Seconds()
			for i, more := range sums.Buckets {
				within[i] += more
			}
			if k.Code != 0 {
				e.emit(cniErrors, sums.Calls, command, strconv.FormatUint(uint64(k.Code), 10), strconv.FormatBool(!k.Withheld))
			}
		}
		buckets, sum := map[float64]uint64{}, uint64(0)
		for i, bound := range bounds {
			sum += within[i]
			buckets[bound.Seconds()] = sum
		}
		e.ch <- prometheus.MustNewConstHistogram(e.descs[cniDuration.name], n, seconds, buckets, command)
	}
}
