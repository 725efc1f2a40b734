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
		"is neither end about to leave the sockhash?",
		"the other end leaves the sockhash, and the connection is plain TCP from then on",
		"a new connection; the reason of the other end says why it leaves",
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
		"nothing: it has called shutdown or close",
	},
	{
		ReasonULP, "ulp",
		"does no upper-layer protocol own either end?",
		"an upper-layer protocol (kTLS) owns the stream",
		"both programs without TCP_ULP",
	},
	{
		ReasonNoPeer, "no-peer",
		"has the other end joined?",
		"the other end has not joined, or is gone",
		"nothing if it was the first message: the next one asks again; else see the conditions of the connection",
	},
	{
		ReasonPolicy, "policy",
		"do the policies of both ends still agree?",
		"a policy was changed, and denies the connection now",
		"peers and ports of both conflists, when their containers are added again",
	},
	{
		ReasonShutdown, "shutdown",
		"has the reader not shut down its receiving side?",
		"the reader has shut down its receiving side, and TCP returns the right error for more bytes",
		"a reader that does not call shutdown with SHUT_RD or SHUT_RDWR while it is sent to",
	},
	{
		ReasonZerocopy, "zerocopy",
		"has the sender not set SO_ZEROCOPY?",
		"the sender has set SO_ZEROCOPY, whose completions only TCP sends",
		"the sender without SO_ZEROCOPY",
	},
	{
		ReasonRcvlowat, "rcvlowat",
		"does the reader wait for single bytes (SO_RCVLOWAT 1)?",
		"the reader has set SO_RCVLOWAT, which only TCP honours",
		"the reader with SO_RCVLOWAT 1",
	},
	{
		ReasonInq, "inq",
		"has the reader not set TCP_INQ?",
		"the reader has set TCP_INQ, which only TCP supports",
		"the reader without TCP_INQ",
	},
	{
		ReasonOption, "option",
		"has neither end set timestamps, SO_PEEK_OFF or a socket filter?",
		"one of the ends has set timestamps, SO_PEEK_OFF or a socket filter, which only TCP honours",
		"both programs without SO_TIMESTAMP, SO_TIMESTAMPING, SO_PEEK_OFF and SO_ATTACH_FILTER",
	},
	{
		ReasonOOB, "oob",
		"does the sender not use MSG_OOB?",
		"the sender uses MSG_OOB, which only TCP honours",
		"the sender without MSG_OOB",
	},
	{
		ReasonWaitall, "waitall",
		"does the reader not use MSG_WAITALL?",
		"the reader uses MSG_WAITALL, which only TCP honours",
		"the reader without MSG_WAITALL, in a new connection",
	},
	{
		ReasonBlocking, "blocking",
		"does the reader not wait inside receive calls?",
		"the reader waits inside receive calls, which only TCP does right",
		"a reader that polls, with O_NONBLOCK; or the key guards without blocking",
	},
	{
		ReasonDiscard, "discard",
		"does the reader not use MSG_TRUNC?",
		"the reader uses MSG_TRUNC, which only TCP honours",
		"the reader without MSG_TRUNC, in a new connection",
	},
	{
		ReasonSplice, "splice",
		"does the reader not use splice(2)?",
		"the reader uses splice(2), which finds only bytes that came over TCP",
		"the reader with read(2) in place of splice(2), in a new connection",
	},
	{
		ReasonLearning, "learning",
		"is it known how the reader receives, as its descriptor has O_NONBLOCK and is in an epoll set, or by its " +
			"first receive call?",
		"the reader may wait inside receive calls and has not called one yet, so it is not known how it reads",
		"nothing: its first receive call does",
	},
	{
		ReasonUnread, "unread",
		"has the reader read every byte that was sent over TCP?",
		"the reader has not read all bytes that were sent over TCP; the connection is redirected again when it has",
		"a reader that keeps up; a stream that outruns its reader stays here until it has caught up",
	},
	{
		ReasonRefresh, "refresh",
		"has this direction sent over TCP within natRefreshSeconds?",
		"one message for each natRefreshSeconds, so that conntrack and IPVS see that the connection is in use; " +
			"those after it are redirected again when the reader has read it",
		"nothing needs to; the key natRefreshSeconds, if no state of conntrack or IPVS is behind the connection",
	},
	{
		ReasonContended, "contended",
		"would a small message not wait for the reader's lock?",
		"the reader is taking bytes on another CPU, and small messages would wait for its lock: TCP is faster " +
			"for the next 64",
		"larger messages: those above 512 bytes are redirected anyway, until a stream of them leaves the sockhash",
	},
	{
		ReasonCorked, "corked",
		"does the sender not use TCP_CORK?",
		"the sender uses TCP_CORK: TCP joins the pieces that a redirect would deliver one by one, so the " +
			"connection is plain TCP now",
		"the sender without TCP_CORK (nginx: tcp_nopush off), in a new connection",
	},
	{
		ReasonPages, "pages",
		"does the sender not use sendfile(2)?",
		"the sender uses sendfile(2): TCP sends the pages that a redirect would copy, so the connection is plain " +
			"TCP now",
		"nothing needs to; the sender with write(2) (nginx: sendfile off), in a new connection",
	},
	{
		ReasonSmall, "small",
		"is it no stream of small messages one way?",
		"it was a stream of small messages one way, which TCP joins, so the connection is plain TCP now",
		"nothing needs to; larger messages, in a new connection",
	},
	{
		ReasonEarly, "early",
		"can no receive call of the client have begun before the handshake ended?",
		"a receive call of the client may have begun before the handshake ended, and only bytes over TCP " +
			"wake it; this concerns the first message of a server",
		"nothing: once the client has read, messages are redirected; a client that polls with epoll does not " +
			"need it",
	},
	{
		ReasonMemory, "memory",
		"is there memory for sockets, on the node and in the reader's cgroup, by a margin?",
		"the node (tcp_mem), or the memory cgroup of the reader or one above it, is short of memory, and a send " +
			"could fail with ENOMEM",
		"a higher memory limit of the reader's container, or readers that keep up; for the node, the sysctl " +
			"net.ipv4.tcp_mem",
	},
	{
		ReasonBacklogBytes, "backlog-bytes",
		"would no more than maxBacklogBytes wait for the reader?",
		"the reader is behind by more bytes than may wait: maxBacklogBytes, or half of what its receive buffer " +
			"may grow to",
		"a reader that keeps up, or the key maxBacklogBytes; a sender that has set SO_SNDBUF has that bound",
	},
	{
		ReasonBacklogMessages, "backlog-messages",
		"would no more than maxBacklogMessages wait for the reader?",
		"the reader is behind by more messages than may wait: maxBacklogMessages",
		"a reader that keeps up, larger messages, or the key maxBacklogMessages",
	},
	{
		ReasonPeerLeft, "peer-left",
		"did the redirect find the other end?",
		"the redirect found no socket: the other end is closing",
		"nothing: the connection ends",
	},
}
