/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What sock_ops does at each callback. The three programs differ in which sockets take part. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "closing.h"
#include "leaving.h"
#include "maps.h"
#include "pairing.h"
#include "policy.h"
#include "totals.h"
#include "wake.h"

/*
 * A pod without a network namespace of its own (hostNetwork). Its sockets are those of its cgroup in the
 * host's network namespace. Its key in endpoints, totals and shares replaces the cookie that all processes of
 * the host share.
 */
struct host_pod {
	__u64 host_netns; /* cookie of the host's network namespace */
	__u64 key;	  /* 1 << HOST_POD_BIT | id of the pod's cgroup */
};

/*
 * The key in endpoints for a socket's network namespace. pod: the one that the program belongs to, or NULL.
 */
static __always_inline __u64 endpoint_key(struct bpf_sock_ops *ops, const struct host_pod *pod)
{
	__u64 cookie = bpf_get_netns_cookie(ops);

	return pod && cookie == pod->host_netns ? pod->key : cookie;
}

static __always_inline bool switched_off(void)
{
	__u32 zero = 0;
	struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	return !cfg || cfg->disabled;
}

/*
 * Does this namespace take part? An endpoint that opted out does not, through whichever link the program
 * runs. *ends gets END_OWN if it is an endpoint.
 */
static __always_inline bool takes_part(const struct endpoint *ep, bool any, __u8 *ends)
{
	*ends = ep ? END_OWN : 0;
	return ep ? ep->accelerate : any;
}

static __always_inline enum role role_at(struct bpf_sock_ops *ops)
{
	return ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ? ROLE_ACTIVE : ROLE_PASSIVE;
}

static __always_inline void on_established(struct bpf_sock_ops *ops, struct bpf_sock *sk, bool any,
					   const struct host_pod *pod)
{
	__u64 netns = endpoint_key(ops, pod);
	const struct endpoint *ep;
	__u8 ends;

	if (switched_off())
		return;
	ep = bpf_map_lookup_elem(&endpoints, &netns);
	if (!takes_part(ep, any, &ends))
		return;
	/*
	 * A program that may clear our callbacks runs after all of ours. Without callbacks a socket would
	 * never leave.
	 */
	if (ep && ep->foreign)
		return count_flow(netns, role_at(ops), RESULT_FOREIGN);
	if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		on_active(ops, sk, netns, ends);
	else
		on_passive(ops, sk, netns, ends);
}

static __always_inline void on_connect(struct bpf_sock_ops *ops, struct bpf_sock *sk, bool any,
				       const struct host_pod *pod)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 netns;
	__u8 ends;

	drop_last_connection(ops, sk);
	/* Under TCP_REPAIR no SYN is sent, and the process chooses the sequence number. */
	if (!tp || !tp->fastopen_req || BPF_CORE_READ_BITFIELD(tp, repair) || waits_in_calls(tp))
		return;
	netns = endpoint_key(ops, pod);
	if (!switched_off() && takes_part(bpf_map_lookup_elem(&endpoints, &netns), any, &ends))
		announce_fast_open(ops, tp, netns, ends);
}

#define OP(name)	 (1U << BPF_SOCK_OPS_##name##_CB)
#define OPS_AT_HANDSHAKE (OP(ACTIVE_ESTABLISHED) | OP(PASSIVE_ESTABLISHED))
#define OPS_OF_OURS \
	(OP(TCP_CONNECT) | OPS_AT_HANDSHAKE | OP(STATE) | OP(RTT) | OP(PARSE_HDR_OPT) | OP(HDR_OPT_LEN))

/* Every socket of the cgroup runs the program for about ten operations, so the cheap test comes first. */
static __always_inline bool is_one_of(__u32 op, __u32 set)
{
	return op < 32 && (1U << op) & set;
}

static __always_inline int dispatch(struct bpf_sock_ops *ops, bool any, const struct host_pod *pod)
{
	struct bpf_sock *sk;

	if (!is_one_of(ops->op, OPS_OF_OURS))
		return 1;
	sk = ops->sk;
	if (!sk)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ops, sk, any, pod);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_established(ops, sk, any, pod);
		break;
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
	case BPF_SOCK_OPS_RTT_CB:
		on_packet(ops, sk);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		on_packet(ops, sk);
		on_segment(ops, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[0] == BPF_TCP_SYN_SENT)
			on_answer_to_syn(ops, sk);
		if (ops->args[1] == BPF_TCP_CLOSE)
			on_close(ops, sk);
		else if (ops->args[1] == BPF_TCP_FIN_WAIT1 || ops->args[1] == BPF_TCP_LAST_ACK)
			on_fin(sk);
		break;
	}
	return 1;
}
