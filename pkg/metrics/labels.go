// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// labelValue is a value of a label, with its meaning for docs/METRICS.md.
type labelValue struct{ Value, Meaning string }

// label is one label with all its values.
type label struct {
	Name   string
	Values []labelValue
}

// labelTable explains the labels whose values are words, in the order of docs/METRICS.md. The values of
// reason are those of sockmap_fallback_total; package decline has those of sockmap_attachments.
func labelTable() []label {
	return []label{
		{"role", []labelValue{
			{datapath.RoleActive.String(), "the end that called connect(2)"},
			{datapath.RolePassive.String(), "the end that came out of accept(2)"},
		}},
		{"result", conditions(datapath.ResultTable[:])},
		{"mode", []labelValue{
			{datapath.ModePending.String(), "it has sent nothing yet"},
			{datapath.ModeRedirect.String(), "its last message went from socket to socket"},
			{datapath.ModeTCP.String(), "its last message was sent over TCP"},
			{datapath.ModeLeft.String(), "it is out of the sockhash for good, and plain TCP"},
		}},
		{"reason", conditions(datapath.ReasonTable[:])},
		{"state", []labelValue{
			{"accelerated", "the container takes part"},
			{"opted-out", "the configuration, an annotation or `sockmapctl disable` keeps it on TCP"},
			{"declined", "it could not be accelerated; `sockmapctl attachments` has the reason"},
			{"left-out", "of `sockmap_pods` only: the plugin was never called for the pod"},
		}},
		{"hazard", hazardValues()},
		{"severity", []labelValue{
			{string(hazard.Severe), "it loses data, hangs common programs or endangers the node: containers are " +
				"declined unless it is guarded or accepted"},
			{string(hazard.Minor), "a result of the socket API differs"},
		}},
		{"guard", guardValues()},
		{"action", actionValues()},
		{"reported", []labelValue{
			{"true", "the runtime got the error"},
			{"false", "the runtime got no error: a container that is not accelerated starts, and a DEL succeeds"},
		}},
		{"program", []labelValue{
			{"sock_ops", "a connection of a container is established, gets its first acknowledgement, or is closed"},
			{"sock_ops_any", "the same, in a cgroup that was attached with `sockmapctl attach`"},
			{"verdict", "a message is sent on a socket in the sockhash"},
		}},
		{"map", []labelValue{
			{datapath.MapSockets, "sockets in the sockhash; its capacity is `maxSockets`"},
			{datapath.MapEndpoints, "registered network namespaces"},
			{datapath.MapAttachments, "CNI attachments"},
		}},
	}
}

func conditions[Number datapath.Reason | datapath.Result](rows []datapath.Condition[Number]) []labelValue {
	values := make([]labelValue, 0, len(rows))
	for _, row := range rows {
		values = append(values, labelValue{row.Name, row.Meaning})
	}
	return values
}

func hazardValues() (values []labelValue) {
	for _, h := range hazard.Table {
		values = append(values, labelValue{h.Name, h.Meaning})
	}
	return values
}

func guardValues() (values []labelValue) {
	for _, g := range hazard.Guards {
		values = append(values, labelValue{g.Name, g.Meaning})
	}
	return values
}

func actionValues() (values []labelValue) {
	for _, a := range actions {
		values = append(values, labelValue{a.name, a.meaning + " (guard `" + a.guard + "`)"})
	}
	return values
}

// action is something that a guard does, as the programs count it.
type action struct {
	event       datapath.Event
	guard, name string
	meaning     string
}

// actions are the values of the label action.
var actions = []action{
	{datapath.EventSpliceRefused, hazard.GuardSplice, "refuse-splice", "splice(2) out of a redirected socket " +
		"failed with EINVAL"},
	{
		datapath.EventHabitNoted, hazard.GuardObserve, "note-flags",
		"a program used MSG_WAITALL, MSG_TRUNC, MSG_OOB or splice(2): its flow stays on TCP",
	},
	{
		datapath.EventReceiveAnswered, hazard.GuardObserve, "answer-receive",
		"a receive with MSG_OOB, of no bytes, or after the peer has closed with bytes unread returned what TCP " +
			"returns",
	},
	{
		datapath.EventSendAnswered, hazard.GuardObserve, "answer-send",
		"a send with MSG_FASTOPEN, from memory that is not mapped, or after the peer has closed with bytes " +
			"unread returned what TCP returns",
	},
	{datapath.EventMappingRefused, hazard.GuardObserve, "refuse-mapping",
		"TCP_ZEROCOPY_RECEIVE failed with ENOPROTOOPT"},
	{
		datapath.EventBlockingNoted, hazard.GuardBlocking, "note-blocking",
		"a reader waited inside receive calls: its flow stays on TCP",
	},
	{
		datapath.EventOptionRefused, hazard.GuardOptions, "refuse-option",
		"an option that comes too late was refused: SO_ZEROCOPY, SO_PEEK_OFF, TCP_ULP or TCP_INQ",
	},
	{
		datapath.EventAnswerCorrected, hazard.GuardOptions, "correct-answer",
		"TCP_INFO or TCP_NOTSENT_LOWAT returned what it returns without sockmap",
	},
	{
		datapath.EventInqCorrected, hazard.GuardFionread, "correct-inq",
		"FIONREAD counted redirected bytes and those that came over TCP",
	},
}
