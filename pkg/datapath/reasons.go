// SPDX-License-Identifier: Apache-2.0

package datapath

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"

// Condition is one row of ReasonTable or ResultTable: a question that the programs ask, and what it means
// when the answer is no. Documentation, metrics and the command explain are made from these rows.
type Condition[Number Reason | Result] struct {
	Number   Number // in bpf/abi.h
	Name     string // as a label of metrics, in tables and in JSON; never changes
	Question string // "yes" lets the message, or the connection, pass
	Meaning  string // why it uses TCP when the answer is "no": a clause without a full stop
	Change   string // what would change the answer
}

// The reasons, as in bpf/abi.h. Each but ReasonNone has a row in ReasonTable.
const (
	ReasonNone            = Reason(bpf.SockmapReasonREASON_NONE)
	ReasonNoPeer          = Reason(bpf.SockmapReasonREASON_NO_PEER)
	ReasonUnread          = Reason(bpf.SockmapReasonREASON_UNREAD)
	ReasonBacklogBytes    = Reason(bpf.SockmapReasonREASON_BACKLOG_BYTES)
	ReasonBacklogMessages = Reason(bpf.SockmapReasonREASON_BACKLOG_MESSAGES)
	ReasonRcvlowat        = Reason(bpf.SockmapReasonREASON_RCVLOWAT)
	ReasonState           = Reason(bpf.SockmapReasonREASON_STATE)
	ReasonULP             = Reason(bpf.SockmapReasonREASON_ULP)
	ReasonDisabled        = Reason(bpf.SockmapReasonREASON_DISABLED)
	ReasonPolicy          = Reason(bpf.SockmapReasonREASON_POLICY)
	ReasonPeerLeft        = Reason(bpf.SockmapReasonREASON_PEER_LEFT)
	ReasonLearning        = Reason(bpf.SockmapReasonREASON_LEARNING)
	ReasonWaitall         = Reason(bpf.SockmapReasonREASON_WAITALL)
	ReasonOOB             = Reason(bpf.SockmapReasonREASON_OOB)
	ReasonInq             = Reason(bpf.SockmapReasonREASON_INQ)
	ReasonZerocopy        = Reason(bpf.SockmapReasonREASON_ZEROCOPY)
	ReasonBlocking        = Reason(bpf.SockmapReasonREASON_BLOCKING)
	ReasonDiscard         = Reason(bpf.SockmapReasonREASON_DISCARD)
	ReasonOption          = Reason(bpf.SockmapReasonREASON_OPTION)
	ReasonContended       = Reason(bpf.SockmapReasonREASON_CONTENDED)
	ReasonRefresh         = Reason(bpf.SockmapReasonREASON_REFRESH)
	ReasonMemory          = Reason(bpf.SockmapReasonREASON_MEMORY)
	ReasonShutdown        = Reason(bpf.SockmapReasonREASON_SHUTDOWN)
	ReasonEarly           = Reason(bpf.SockmapReasonREASON_EARLY)
	ReasonLeaving         = Reason(bpf.SockmapReasonREASON_LEAVING)
	ReasonCorked          = Reason(bpf.SockmapReasonREASON_CORKED)
	ReasonPages           = Reason(bpf.SockmapReasonREASON_PAGES)
	ReasonSmall           = Reason(bpf.SockmapReasonREASON_SMALL)
	ReasonSplice          = Reason(bpf.SockmapReasonREASON_SPLICE)
)

// ReasonTable has a row for each Reason but ReasonNone. The order is that in which why_tcp of bpf/verdict.h
// asks, which docs/DATAPATH.md has, too. Nobody writes to it.
var ReasonTable = [...]Condition[Reason]{
	{
		ReasonLeaving, "leaving",
		"do both ends stay in the sockhash?",
		"the other end leaves the sockhash, and the connection is plain TCP from then on",
		"a new connection; the reason of the other end is why it leaves",
	},
	{
		ReasonDisabled, "disabled",
		"is the kill switch off?",
		"the kill switch is on",
		"sockmapctl enable",
	},
	{
		ReasonState, "state",
		"is the socket ESTABLISHED or CLOSE_WAIT?",
		"the socket is closing, and TCP returns the right error",
		"nothing: its program has called shutdown or close",
	},
	{
		ReasonULP, "ulp",
		"does neither end have an upper-layer protocol (kTLS)?",
		"one of the ends has an upper-layer protocol (kTLS)",
		"both programs without TCP_ULP",
	},
	{
		ReasonNoPeer, "no-peer",
		"has the other end joined?",
		"the other end has not joined, or is gone",
		"nothing after the first message, because the next one is checked again; later, see the conditions of " +
			"the connection",
	},
	{
		ReasonPolicy, "policy",
		"do the policies of both ends still agree?",
		"a policy was changed, and denies the connection now",
		"peers and ports of both conflists, when their containers are added again",
	},
	{
		ReasonShutdown, "shutdown",
		"is the reader's receiving side open?",
		"the reader has shut down its receiving side, and TCP returns the right error for more bytes",
		"a reader that does not call shutdown with SHUT_RD or SHUT_RDWR while its peer sends",
	},
	{
		ReasonZerocopy, "zerocopy",
		"does the sender send without SO_ZEROCOPY?",
		"the sender has set SO_ZEROCOPY, whose completions only TCP sends",
		"the sender without SO_ZEROCOPY",
	},
	{
		ReasonRcvlowat, "rcvlowat",
		"does one byte wake the reader (SO_RCVLOWAT 1)?",
		"the reader has set SO_RCVLOWAT, which works only over TCP",
		"the reader with SO_RCVLOWAT 1",
	},
	{
		ReasonInq, "inq",
		"does the reader receive without TCP_INQ?",
		"the reader has set TCP_INQ, which works only over TCP",
		"the reader without TCP_INQ",
	},
	{
		ReasonOption, "option",
		"does neither end use timestamps, SO_PEEK_OFF or a socket filter?",
		"one of the ends uses timestamps, SO_PEEK_OFF or a socket filter, which work only over TCP",
		"both programs without SO_TIMESTAMP, SO_TIMESTAMPING, SO_PEEK_OFF and SO_ATTACH_FILTER",
	},
	{
		ReasonOOB, "oob",
		"does the sender send without MSG_OOB?",
		"the sender uses MSG_OOB, which works only over TCP",
		"the sender without MSG_OOB",
	},
	{
		ReasonWaitall, "waitall",
		"does the reader receive without MSG_WAITALL?",
		"the reader uses MSG_WAITALL, which works only over TCP",
		"the reader without MSG_WAITALL, in a new connection",
	},
	{
		ReasonBlocking, "blocking",
		"does the reader poll, so that it does not wait inside receive calls?",
		"the reader waits inside receive calls, which works correctly only over TCP",
		"a reader that polls, with O_NONBLOCK; or the key guards without blocking",
	},
	{
		ReasonDiscard, "discard",
		"does the reader receive without MSG_TRUNC?",
		"the reader uses MSG_TRUNC, which works only over TCP",
		"the reader without MSG_TRUNC, in a new connection",
	},
	{
		ReasonSplice, "splice",
		"does the reader receive without splice(2)?",
		"the reader uses splice(2), which finds only bytes that came over TCP",
		"the reader with read(2) in place of splice(2), in a new connection",
	},
	{
		ReasonLearning, "learning",
		"is it known how the reader receives: by O_NONBLOCK and an epoll set, or by its first receive call?",
		"the reader has made no receive call yet, so it is not known whether it waits inside receive calls",
		"nothing: the first receive call of the reader changes it",
	},
	{
		ReasonUnread, "unread",
		"has the reader read every byte that was sent over TCP?",
		"the reader has not read all bytes that were sent over TCP; the connection is redirected again when it has",
		"a reader that keeps up; a stream that is faster than its reader stays on TCP until the reader has " +
			"caught up",
	},
	{
		ReasonRefresh, "refresh",
		"has this direction sent a message over TCP in the last natRefreshSeconds?",
		"one message every natRefreshSeconds uses TCP, so that conntrack and IPVS see that the connection is in " +
			"use; the next messages are redirected again when the reader has read it",
		"no change is needed; the key natRefreshSeconds, if neither conntrack nor IPVS tracks the connection",
	},
	{
		ReasonContended, "contended",
		"is the reader's socket lock free for a small message?",
		"the reader receives on another CPU at this moment, and a small message would wait for its socket lock: " +
			"the next 64 small messages use TCP, which is faster",
		"larger messages: those above 512 bytes are still redirected, until a stream of them leaves the sockhash",
	},
	{
		ReasonCorked, "corked",
		"does the sender send without TCP_CORK?",
		"the sender uses TCP_CORK: TCP joins the pieces that a redirect would deliver one by one, so the " +
			"connection is plain TCP now",
		"the sender without TCP_CORK (nginx: tcp_nopush off), in a new connection",
	},
	{
		ReasonPages, "pages",
		"does the sender send without sendfile(2)?",
		"the sender uses sendfile(2): TCP sends the pages that a redirect would copy, so the connection is plain " +
			"TCP now",
		"no change is needed; the sender with write(2) (nginx: sendfile off), in a new connection",
	},
	{
		ReasonSmall, "small",
		"are the messages large, or answered by the reader?",
		"it was a one-way stream of small messages, which TCP joins, so the connection is plain TCP now",
		"no change is needed; larger messages, in a new connection",
	},
	{
		ReasonEarly, "early",
		"did the client call receive only after the handshake?",
		"a receive call of the client may have begun before the handshake ended, and only bytes over TCP " +
			"wake it; this concerns the first message of a server",
		"nothing: messages are redirected once the client has read one; clients that use epoll are not concerned",
	},
	{
		ReasonMemory, "memory",
		"is there enough memory for sockets, on the node and in the reader's cgroup?",
		"the node (tcp_mem), or the memory cgroup of the reader or one above it, is short of memory, and a send " +
			"could fail with ENOMEM",
		"a higher memory limit of the reader's container, or readers that keep up; for the node, the sysctl " +
			"net.ipv4.tcp_mem",
	},
	{
		ReasonBacklogBytes, "backlog-bytes",
		"would the backlog of the reader stay within maxBacklogBytes?",
		"more bytes would wait for the reader than may: maxBacklogBytes, or half of the size that its receive " +
			"buffer may grow to",
		"a reader that keeps up, or the key maxBacklogBytes; for a sender that has set SO_SNDBUF, that option",
	},
	{
		ReasonBacklogMessages, "backlog-messages",
		"would the backlog of the reader stay within maxBacklogMessages?",
		"more messages would wait for the reader than maxBacklogMessages",
		"a reader that keeps up, larger messages, or the key maxBacklogMessages",
	},
	{
		ReasonPeerLeft, "peer-left",
		"did the redirect find the other end?",
		"the redirect found no socket: the other end is closing",
		"nothing: the connection ends",
	},
}
