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

// ResultTable has a row for each Result. The order is that in which bpf/pairing.h and bpf/leaving.h ask;
// ResultJoined is last, as it remains when every answer is yes. Nobody writes to it.
var ResultTable = [...]Condition[Result]{
	{
		ResultForeign, "foreign",
		"does no other sock_ops program run last at the cgroup of either end?",
		"a sock_ops program of somebody else runs last at the cgroup of an end and could switch sockmap's " +
			"callbacks off, or its sockmap has the socket",
		"that program attached in a way that lets others run after it; sockmapctl status names it. If it is " +
			"gone: sockmapctl gc, or the next ADD",
	},
	{
		ResultRepair, "repair",
		"did a packet establish it?",
		"TCP_REPAIR (CRIU) established it, so its sequence numbers prove nothing",
		"nothing; a connection that connect(2) makes",
	},
	{
		ResultMPTCP, "mptcp",
		"is it plain TCP, and not a subflow of MPTCP?",
		"it is a subflow of a multipath connection",
		"a socket without IPPROTO_MPTCP",
	},
	{
		ResultULP, "ulp",
		"does no upper-layer protocol own the stream?",
		"an upper-layer protocol (kTLS) owns the stream",
		"a socket without TCP_ULP (kTLS) when it connects",
	},
	{
		ResultOption, "option",
		"was no option set that only TCP honours?",
		"an option that only TCP honours was set before it was connected: SO_ZEROCOPY, TCP_INQ or timestamps",
		"no SO_ZEROCOPY, TCP_INQ, SO_TIMESTAMP or SO_TIMESTAMPING on the socket when it connects, or on the " +
			"listener",
	},
	{
		ResultHelper, "helper",
		"does no conntrack helper of this node read this port?",
		"a conntrack helper of this node (FTP, SIP, IRC, ...) reads this port, and sees packets only",
		"the key conntrackHelpers, or a kernel without that helper; sockmapctl status names them",
	},
	{
		ResultBlocking, "blocking",
		"is the client's descriptor non-blocking, if the guard blocking runs?",
		"the client's descriptor is blocking, and the guard blocking runs",
		"O_NONBLOCK on the socket before connect, or the key guards without blocking",
	},
	{
		ResultShort, "short",
		"were earlier connections to this destination worth it?",
		"the last 256 connections to this destination ended after a few messages; the other end counts remote",
		"a connection that is kept for more than a few messages; one for each 50 ms is let in to see",
	},
	{
		ResultStream, "stream",
		"did earlier connections to this destination gain by being redirected?",
		"the last 4 connections to this destination left the sockhash, because they gained nothing; the other " +
			"end counts remote",
		"nothing needs to; one for each second is let in to see",
	},
	{
		ResultCollision, "collision",
		"has no other flow the same two sequence numbers?",
		"another flow has the same two initial sequence numbers",
		"the next connection has others",
	},
	{
		ResultShare, "share",
		"has its pod less than its share, or is more than half of the sockhash free?",
		"its pod has more than a quarter of the sockhash, and more than half of it is taken",
		"fewer connections of that pod at a time; or the key maxSockets, then sockmapctl unload",
	},
	{
		ResultMapFull, "map-full",
		"is there space in the sockhash?",
		"the sockhash is full: maxSockets is reached",
		"the key maxSockets, then sockmapctl unload",
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
		"have earlier flows to this port done nothing that only TCP does right?",
		"an earlier flow did what only TCP does right: its server in receiving, or its client in sending there; " +
			"sockmapctl avoided lists them",
		"a program without MSG_WAITALL, MSG_TRUNC, MSG_OOB or blocking receive calls; then sockmapctl forget, or " +
			"wait as long as sockmapctl avoided says",
	},
	{
		ResultJoined, "joined",
		"are both ends in the sockhash?",
		"both ends are in the sockhash, and the connection may be redirected",
		"see the conditions before",
	},
}
