/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When a socket leaves the sockhash while its connection lives: only while nothing that was redirected to it
 * waits, and nothing more can come. closing.h is about the end of connections.
 */
#pragma once

#include "commit.h"
#include "pairing.h"
#include "window.h"

/*
 * The peer has answered, so its own callback has run. If nobody has joined, the peer is in no endpoint of
 * this node, and the socket leaves, because being in a sockmap costs. A missing rendezvous entry proves
 * nothing: it may have been evicted, or the peer may have closed and removed it with bytes of ours still
 * unread. Reports whether the socket has left.
 */
static __always_inline bool leave_if_alone(struct bpf_sock_ops *ops, struct bpf_sock *sk,
					   struct sock_state *state, struct tcp_sock *tp)
{
	struct isn_pair self = state->self;
	__u64 netns = state->netns;
	enum result result;
	struct rendezvous *rv;

	rv = bpf_map_lookup_elem(&flows, &self);
	if (!rv || rv->active_sk != (__u64)tp)
		return false;
	if (meet_passive(state, rv))
		return false;
	result = rv->kept_out ? rv->kept_out : RESULT_REMOTE;
	record_history(tp, netns, result);
	bpf_map_delete_elem(&flows, &self);
	leave_callbacks(ops, state);
	remove_unpaired(sk, state);
	clear_mark(ops, tp);
	count_flow(netns, ROLE_ACTIVE, result);
	return true;
}

/*
 * Deletes by key, so only while this socket owns the key: once it is out of the sockhash, another may own it.
 */
static __always_inline void leave_sockhash(struct sock_state *state, struct tcp_sock *tp)
{
	struct isn_pair self = state->self;

	if (!state->left && psock_of(&tp->inet_conn.icsk_inet.sk))
		bpf_map_delete_elem(&sockets, &self);
	count_out(state);
	return_window(state);
	state->left = 1;
}

/* The connection lives on, so the socket's options become what they were, too. ctx: as for set_mark. */
static __always_inline void leave_alive(void *ctx, struct sock_state *state, struct tcp_sock *tp)
{
	leave_sockhash(state, tp);
	clear_mark(ctx, tp);
	restore_window_clamp(ctx, tp);
}

/*
 * To a PLAIN reader whose peer does not redirect early, nothing was redirected and nothing will be. So
 * nothing is lost when it leaves.
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
 * Commits to TCP outside the verdict, because the other end or an eviction wants it. why is then the reason.
 * An end that was on TCP only for a moment was no stream that gains nothing. Reports whether it has
 * committed.
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
 * Both ends have committed and nothing waits: from here on this is a TCP socket like any other. Not while our
 * keepalive probes run, because the program's settings must be restored first.
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
static __always_inline void leave_if_both_committed(struct bpf_sock_ops *ops, struct sock_state *state,
						    struct tcp_sock *tp)
{
	if (peer_has_committed(state) && commit_for_others(state, tp, REASON_LEAVING))
		leave_for_good(ops, state, tp);
}

/*
 * Acts on what the observers know about both readers. Until the peer has begun to read, the mark stays high,
 * because programs may rely on what TCP queues without a reader. Reports whether both readers are known.
 */
static __always_inline bool act_on_readers(struct bpf_sock_ops *ops, struct sock_state *state,
					   struct tcp_sock *tp)
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
		/*
		 * A repeated SYN-ACK: our ACK has not arrived, so the peer's callback may not have run yet.
		 */
		return !(ops->skb_tcp_flags & TCPHDR_SYN);
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		return ops->bytes_received > 0 || ops->bytes_acked > 1;
	}
	return true;
}

/*
 * A packet has come, or is about to be sent. We ask for packets until everything is decided, through three
 * callbacks: packets on the kernel's fast path are not parsed, a sender sees only acknowledgements there, and
 * a socket without window scaling that only receives sees only what it sends itself.
 */
static __always_inline void on_packet(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, 0);
	struct tcp_sock *tp;
	bool answered;

	/* Flags of others, or stale ones of ours, bring packets of sockets that are not ours. */
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
