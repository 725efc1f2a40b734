// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Iterators, for `sockmapctl flows` and the metrics. Both write a struct flow_record for each live socket.
 * The loader uses the first that the kernel accepts.
 *
 *   list_flows   over the sockets' storage: all of the node's in one pass
 *   list_tcp     over TCP sockets, of one network namespace a pass: for kernels without iterators over maps
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "abi.h"
#include "maps.h"
#include "key.h"

static __always_inline void write_addresses(struct flow_record *rec, struct sock *sk)
{
	rec->family = sk->__sk_common.skc_family;
	rec->local_port = sk->__sk_common.skc_num;
	rec->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (rec->family == AF_INET6) {
		BPF_CORE_READ_INTO(&rec->local_addr, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&rec->remote_addr, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
	} else {
		*(__u32 *)rec->local_addr = sk->__sk_common.skc_rcv_saddr;
		*(__u32 *)rec->remote_addr = sk->__sk_common.skc_daddr;
	}
}

static __always_inline bool has_joined(const struct sock_state *state)
{
	struct isn_pair key = rendezvous_key(state);
	struct rendezvous *flow;

	if (state->peer_sk)
		return true;
	flow = bpf_map_lookup_elem(&flows, &key);
	return flow && flow->passive_sk;
}

/* An ended connection is in the totals already. */
static __always_inline bool has_ended(const struct sock_state *state)
{
	return state->ends & END_CLOSED;
}

static __always_inline void write_record(struct seq_file *seq, struct tcp_sock *tp,
					 const struct sock_state *state)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct flow_record rec = {};

	rec.self = state->self;
	rec.peer = mirrored(state->self);
	rec.cookie = sk->__sk_common.skc_cookie.counter;
	rec.netns = state->netns;
	rec.peer_netns = state->peer_netns;
	rec.redirected_bytes = state->redirected_bytes;
	rec.redirected_messages = state->redirected_messages;
	rec.tcp_bytes = tp->bytes_sent - tp->bytes_retrans;
	rec.tcp_messages = state->tcp_messages;
	rec.established_ns = state->established_ns;
	rec.backlog_high = state->backlog_high;
	rec.backlog_bytes = sk->sk_backlog.rmem_alloc.counter;
	rec.role = state->role;
	rec.mode = state->mode;
	rec.reason = state->mode == MODE_TCP ? state->reason : REASON_NONE;
	rec.joined = has_joined(state);
	rec.left = state->left;
	rec.ends = state->ends;
	rec.window = state->window;
	rec.state = sk->__sk_common.skc_state;
	write_addresses(&rec, sk);
	bpf_seq_write(seq, &rec, sizeof(rec));
}

SEC("iter/bpf_sk_storage_map")
int list_flows(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock_state *state = ctx->value;
	struct sock *sk = ctx->sk;
	struct tcp_sock *tp;

	if (!state || !sk || has_ended(state))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		write_record(ctx->meta->seq, tp, state);
	return 0;
}

SEC("iter/tcp")
int list_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_state *state;
	struct tcp_sock *tp;

	if (!ctx->sk_common)
		return 0;
	tp = bpf_skc_to_tcp_sock(ctx->sk_common);
	if (!tp)
		return 0;
	state = bpf_sk_storage_get(&states, tp, NULL, 0);
	if (state && !has_ended(state))
		write_record(ctx->meta->seq, tp, state);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
