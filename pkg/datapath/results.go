// SPDX-License-Identifier: Apache-2.0

package datapath

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"

// The results, as in bpf/abi.h. Each has a row in ResultTable.
const (
	ResultJoined    = Result(bpf.SockmapResultRESULT_JOINED)
	ResultRemote    = Result(bpf.SockmapResultRESULT_REMOTE)
	ResultDenied    = Result(bpf.SockmapResultRESULT_DENIED)
	ResultCollision = Result(bpf.SockmapResultRESULT_COLLISION)
	ResultMapFull   = Result(bpf.SockmapResultRESULT_MAP_FULL)
	ResultRepair    = Result(bpf.SockmapResultRESULT_REPAIR)
	ResultMPTCP     = Result(bpf.SockmapResultRESULT_MPTCP)
	ResultULP       = Result(bpf.SockmapResultRESULT_ULP)
	ResultError     = Result(bpf.SockmapResultRESULT_ERROR)
	ResultOption    = Result(bpf.SockmapResultRESULT_OPTION)
	ResultAvoided   = Result(bpf.SockmapResultRESULT_AVOIDED)
	ResultBlocking  = Result(bpf.SockmapResultRESULT_BLOCKING)
	ResultShort     = Result(bpf.SockmapResultRESULT_SHORT)
	ResultShare     = Result(bpf.SockmapResultRESULT_SHARE)
	ResultHelper    = Result(bpf.SockmapResultRESULT_HELPER)
	ResultForeign   = Result(bpf.SockmapResultRESULT_FOREIGN)
	ResultStream    = Result(bpf.SockmapResultRESULT_STREAM)
)

// RaiseMaxSockets is the advice where the sockhash is full, or almost.
const RaiseMaxSockets = "raise maxSockets, and run: sockmapctl upgrade --max-sockets N (live flows stay)"

// ResultTable has a row for each Result. The order is that in which bpf/pairing.h and bpf/leaving.h ask;
// ResultJoined is last, as it remains when every answer is yes. Nobody writes to it.
var ResultTable = [...]Condition[Result]{
	{
		ResultForeign, "foreign",
		"does no foreign sock_ops program run last at the cgroup of either end?",
		"a foreign sock_ops program runs last at the cgroup of an end and could switch sockmap's callbacks off, " +
			"or has the socket in its own sockmap",
		"that program, attached so that others can run after it; sockmapctl status names it. If it is gone: " +
			"sockmapctl gc, or the next ADD",
	},
	{
		ResultRepair, "repair",
		"did a handshake establish the connection?",
		"TCP_REPAIR (CRIU) established the connection, so its sequence numbers do not identify its other end",
		"nothing for this connection; a new one that connect(2) makes",
	},
	{
		ResultMPTCP, "mptcp",
		"is the connection plain TCP, and not a subflow of MPTCP?",
		"the connection is a subflow of MPTCP",
		"a socket without IPPROTO_MPTCP",
	},
	{
		ResultULP, "ulp",
		"does the socket have no upper-layer protocol (kTLS)?",
		"the socket has an upper-layer protocol (kTLS)",
		"a socket without TCP_ULP (kTLS) when it connects",
	},
	{
		ResultOption, "option",
		"was no option set that works only over TCP?",
		"an option that works only over TCP was set before the socket was connected: SO_ZEROCOPY, TCP_INQ or " +
			"timestamps",
		"no SO_ZEROCOPY, TCP_INQ, SO_TIMESTAMP or SO_TIMESTAMPING on the socket when it connects, or on the " +
			"listener",
	},
	{
		ResultHelper, "helper",
		"does no conntrack helper of this node read this port?",
		"a conntrack helper of this node (FTP, SIP, IRC, ...) reads the bytes of this port, and sees only packets",
		"the key conntrackHelpers, or a kernel without that helper; sockmapctl status names them",
	},
	{
		ResultBlocking, "blocking",
		"is the client's descriptor non-blocking, or the guard blocking off?",
		"the client's descriptor is blocking, and the guard blocking runs",
		"O_NONBLOCK on the socket before connect, or the key guards without blocking",
	},
	{
		ResultShort, "short",
		"did earlier connections to this destination send more than a few messages?",
		"the last 256 connections to this destination ended after a few messages; the other end counts remote",
		"connections that are kept for more than a few messages; every 50 ms one connection is paired to find out",
	},
	{
		ResultStream, "stream",
		"did earlier connections to this destination gain from redirection?",
		"the last 4 connections to this destination left the sockhash, because they gained nothing; the other " +
			"end counts remote",
		"no change is needed; every second one connection is paired to find out",
	},
	{
		ResultCollision, "collision",
		"does no other connection have the same two initial sequence numbers?",
		"another connection has the same two initial sequence numbers",
		"a new connection, which has other numbers",
	},
	{
		ResultShare, "share",
		"does its pod have at most a quarter of the sockhash, or is half of the sockhash free?",
		"its pod has more than a quarter of the sockhash, and more than half of it is taken",
		"fewer connections of that pod at a time; or " + RaiseMaxSockets,
	},
	{
		ResultMapFull, "map-full",
		"does the sockhash have room?",
		"the sockhash is full: maxSockets is reached",
		RaiseMaxSockets,
	},
	{
		ResultError, "error",
		"was there memory, and is the socket in no other sockmap?",
		"there was no memory, or the socket is in another sockmap",
		"no other program that puts this container's sockets into a sockmap",
	},
	{
		ResultRemote, "remote",
		"is the other end on this node, too?",
		"the other end is not in an endpoint of this node",
		"both ends in containers of this node that take part",
	},
	{
		ResultDenied, "denied",
		"do the policies of both ends agree?",
		"peers or ports of one of the ends deny the connection",
		"peers and ports of both conflists, when their containers are added again",
	},
	{
		ResultAvoided, "avoided",
		"has no earlier connection to this port used a feature that works only over TCP?",
		"the server's program used a feature that works only over TCP on an earlier connection, or this client's " +
			"program did on one to the same destination; sockmapctl avoided lists them",
		"a program without MSG_WAITALL, MSG_TRUNC, MSG_OOB, splice(2) or blocking receive calls; then " +
			"sockmapctl forget, or wait as long as sockmapctl avoided shows",
	},
	{
		ResultJoined, "joined",
		"are both ends in the sockhash?",
		"both ends are in the sockhash, and the connection may be redirected",
		"see the conditions before",
	},
}
