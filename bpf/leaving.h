/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an end finds out about the other after the handshake, and when a socket leaves the sockhash again: while nothing
 * was redirected to it, and only then.
 */
#pragma once

#include "commit.h"
#include "pairing.h"
#include "window.h"

/*
 * The peer has answered, so its own callback has run. Nobody joined: it is not in an endpoint of this node, and
 * being in a sockmap has costs, so leave. A missing rendezvous entry proves nothing: it may have been evicted, or
 * the peer has closed and taken it along with bytes of ours still unread. Reports whether the socket has left.
 */
static __always_inline bool leave_if_alone(struct bpf_sock_ops *ops, struct bpf_sock *sk, struct sock_state *state,
					   struct tcp_sock *tp)
{
	struct isn_pair self = state->self;
	__u64 netns = state->netns;
	enum result result;
	struct rendezvous *flow;

	flow = bpf_map_lookup_elem(&flows, &self);
	if (!flow || flow->active_sk != (__u64)tp)
		return false;
	if (meet_passive(state, flow))
		return false;
	result = flow->kept_out ? flow->kept_out : RESULT_REMOTE;
	record_history(tp, netns, result);
	bpf_map_delete_elem(&flows, &self);
	leave_callbacks(ops, state);
	remove_unpaired(sk, state);
	clear_mark(ops, tp);
	count_flow(netns, ROLE_ACTIVE, result);
	return true;
}

/* Deletes by key, and only what is this socket's: out of the sockhash, its key may be another's. */
static __always_inline void leave_sockhash(struct sock_state *state, struct tcp_sock *tp)
{
	struct isn_pair self = state->self;

	if (!state->left && psock_of(&tp->inet_conn.icsk_inet.sk))
		bpf_map_delete_elem(&sockets, &self);
	count_out(state);
	return_window(state);
	state->left = 1;
}

/* While its connection lives, so it gets back what was ours of it, too. ctx: as of set_mark. */
static __always_inline void leave_alive(void *ctx, struct sock_state *state, struct tcp_sock *tp)
{
	leave_sockhash(state, tp);
	clear_mark(ctx, tp);
	restore_window_clamp(ctx, tp);
}

/*
 * Nothing was ever redirected to a PLAIN reader that nobody trusted, nor will be, so nothing is lost when it
 * leaves.
 */
static __always_inline void leave_as_plain(struct bpf_sock_ops *ops, struct sock_state *state,
					   struct tcp_sock *tp)
{
	if (peer_has_redirected(state) || redirected_bytes_wait(&tp->inet_conn.icsk_inet.sk))
		return;
	leave_alive(ops, state, tp);
	leave_callbacks(ops, state);
	state->reason = REASON_BLOCKING;
	if (state->mode != MODE_TCP)
		count_fallback(state->netns, REASON_BLOCKING);
	state->mode = MODE_TCP;
}

/*
 * Swears outside its verdict, because somebody else wants it. No verdict says why then; and an end that was on
 * TCP for a moment was no stream that gains nothing. Reports whether it has sworn.
 */
static __always_inline bool commit_for_others(struct sock_state *state, struct tcp_sock *tp, enum reason why)
{
	if (has_committed(state))
		return true;
	if (!commit(state, tp, 0))
		return false;
	if (state->mode != MODE_TCP)
		count_fallback(state->netns, why);
	if (state->mode != MODE_TCP || is_one(state->reason, REASONS_TO_REMEMBER))
		state->reason = why;
	state->mode = MODE_TCP;
	return true;
}

/*
 * Both ends have sworn, and nothing waits: from here on this is a TCP socket like any other. Not while
 * keepalive probes of ours run, whose settings are to be given back first.
 */
static __always_inline void leave_for_good(struct bpf_sock_ops *ops, struct sock_state *state,
					   struct tcp_sock *tp)
{
	if ((state->ends & END_PROBED) || redirected_bytes_wait(&tp->inet_conn.icsk_inet.sk))
		return;
	leave_alive(ops, state, tp);
	leave_callbacks(ops, state);
}

/* At each segment that the socket sends. */
static __always_inline void leave_if_both_committed(struct bpf_sock_ops *ops, struct sock_state *state, struct tcp_sock *tp)
{
	if (peer_has_committed(state) && commit_for_others(state, tp, REASON_LEAVING))
		leave_for_good(ops, state, tp);
}

/*
 * With the observers running: what is known of both readers by now. Until the peer has begun to read, TCP keeps a
 * good part of its length, because programs may count on what it takes without a reader. Reports whether both are known.
 */
static __always_inline bool act_on_readers(struct bpf_sock_ops *ops, struct sock_state *state, struct tcp_sock *tp)
{
	__u32 peer = READER_UNKNOWN;

	if (!learning())
		return true;
	if (state->reader == READER_PLAIN) {
		if (!peer_redirects_early(state))
			leave_as_plain(ops, state, tp);
		return true;
	}
	if (know_peer(state))
		peer = observed_of_peer(state).reader;
	if (peer == READER_READY)
		set_low_mark(ops, tp);
	return state->reader != READER_UNKNOWN && peer != READER_UNKNOWN;
}

/* Has anything come that only an established peer sends? The SYN's acknowledgement counts as one byte. */
static __always_inline bool has_answered(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		/* A repeated SYN-ACK says that our ACK has not arrived, so the peer's callback may be yet to come. */
		return !(ops->skb_tcp_flags & TCPHDR_SYN);
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		return ops->bytes_received > 0 || ops->bytes_acked > 1;
	}
	return true;
}

/*
 * A packet has come, or one is about to leave. We ask for packets until everything is decided that can be
 * decided then: in three ways, because packets that the kernel takes on its fast path are not parsed,
 * acknowledgements are all that a sender gets to see there, and a socket without window scaling that only
 * receives has nothing but what it sends itself.
 */
static __always_inline void on_packet(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, 0);
	struct tcp_sock *tp;
	bool answered;

	/* Others' flags, or what is left of ours, bring packets of sockets that are not ours. */
	if (!state || state->left || !(state->callbacks & CALLBACKS_UNDECIDED))
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	answered = has_answered(ops);
	if (answered && state->role == ROLE_ACTIVE && leave_if_alone(ops, sk, state, tp))
		return;
	if (act_on_readers(ops, state, tp) && answered)
		settle_callbacks(ops, state);
	else
		ask_for_answers(ops, state);
}
