/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an end finds out about the other after the handshake, and when a socket leaves the sockhash again: while nothing
 * was redirected to it, and only then.
 */
#pragma once

#include "pairing.h"
#include "window.h"

static __always_inline void meet_passive(struct sock_state *state, const struct flow *flow)
{
	state->peer_netns = flow->passive_netns;
	state->port = flow->port;
	state->peer_state = flow->passive_state;
	state->peer_sk = flow->passive_sk;
}

/* The active end learns who joined at the first answer, or when it sends before that. */
static __always_inline bool know_peer(struct sock_state *state)
{
	struct isn_pair key = flow_key(state);
	struct flow *flow;

	if (state->peer_sk)
		return true;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return false;
	if (state->role == ROLE_ACTIVE) {
		meet_passive(state, flow);
	} else {
		state->peer_state = flow->active_state;
		state->peer_sk = flow->active_sk; /* Fast Open: it came second */
	}
	return state->peer_sk;
}

/*
 * Whoever closes takes the rendezvous entry along, and an end whose peer has closed is no longer ESTABLISHED, but for the
 * moment that a reset needs. So for an end that is, and has not met its peer, a missing entry was evicted.
 */
static __always_inline bool rendezvous_lost(const struct sock_state *state)
{
	struct isn_pair key = flow_key(state);

	return !bpf_map_lookup_elem(&flows, &key);
}

/* What the observers keep of a program, as its peer reads it: neighbours, for one read. */
struct observed {
	__u32 habits;
	__u32 reader;
};

static __always_inline struct observed observed_of_peer(const struct sock_state *state)
{
	const struct sock_state *peer = (const struct sock_state *)state->peer_state;
	struct observed observed = {};

	if (peer)
		bpf_probe_read_kernel(&observed, sizeof(observed), &peer->habits);
	return observed;
}

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
	struct flow *flow;

	flow = bpf_map_lookup_elem(&flows, &self);
	if (!flow || flow->active_sk != (__u64)tp)
		return false;
	if (flow->passive_sk) {
		meet_passive(state, flow);
		return false;
	}
	result = flow->kept_out ? flow->kept_out : RESULT_REMOTE;
	remember(tp, netns, result);
	bpf_map_delete_elem(&flows, &self);
	forget(sk, self);
	give_tcp_its_length(ops, tp);
	count_flow(netns, ROLE_ACTIVE, result);
	return true;
}

/*
 * Has the peer said that it redirects to this reader although it has not called receive yet? Its state is a hint: if it is not the one
 * of this connection any more, the peer is gone and what it sent may wait here.
 */
static __always_inline bool trusted_by_peer(struct sock_state *state)
{
	struct observed observed;

	if (!know_peer(state))
		return false;
	observed = observed_of_peer(state);
	return (observed.habits & HABIT_TRUSTS) || !still_the_peers(state);
}

/* Nothing was ever redirected to a PLAIN reader that nobody trusted, nor will be, so nothing is lost when it leaves. */
static __always_inline void leave_as_plain(struct bpf_sock_ops *ops, struct sock_state *state, struct tcp_sock *tp)
{
	struct isn_pair self = state->self;

	bpf_map_delete_elem(&sockets, &self);
	give_tcp_its_length(ops, tp);
	state->left = 1;
	state->reason = REASON_BLOCKING;
	if (state->mode != MODE_TCP)
		count_fallback(state->netns, REASON_BLOCKING);
	state->mode = MODE_TCP;
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
		if (!trusted_by_peer(state))
			leave_as_plain(ops, state, tp);
		return true;
	}
	if (know_peer(state))
		peer = observed_of_peer(state).reader;
	if (peer == READER_READY)
		keep_tcp_short(ops, tp);
	return state->reader != READER_UNKNOWN && peer != READER_UNKNOWN;
}

/*
 * A packet has come. We ask for packets until everything is decided that can be decided then: in both ways, because packets
 * that the kernel takes on its fast path are not parsed, and acknowledgements are all that a sender gets to see there.
 */
static __always_inline void on_packet(struct bpf_sock_ops *ops, struct bpf_sock *sk, bool answered)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, 0);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	bool decided = true;

	if (state && tp && !(answered && state->role == ROLE_ACTIVE && leave_if_alone(ops, sk, state, tp)))
		decided = act_on_readers(ops, state, tp) && answered;
	if (decided)
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags & ~ANSWER_FLAGS);
}

/*
 * The FIN is about to leave. After close(2) with bytes unread TCP would send a reset instead, but it does not count redirected ones.
 * The guards tell the peer's program. It is close(2) and not shutdown(2) when the kernel has taken the socket out of the sockhash,
 * whose bytes are charged for a little longer.
 */
static __always_inline void on_fin(struct bpf_sock *sk)
{
	struct sock_state *state;
	__u32 untold = RESET_UNTOLD;
	struct isn_pair peer;
	struct tcp_sock *tp;
	struct sock *full;

	if (!learning())
		return;
	state = bpf_sk_storage_get(&states, sk, NULL, 0);
	tp = bpf_skc_to_tcp_sock(sk);
	if (!state || state->left || !tp)
		return;
	full = &tp->inet_conn.icsk_inet.sk;
	if (((unsigned long)full->sk_user_data & USER_DATA_PSOCK) || full->sk_receive_queue.qlen)
		return;
	if (full->sk_backlog.rmem_alloc.counter > 0) {
		peer = mirrored(state->self);
		bpf_map_update_elem(&resets, &peer, &untold, BPF_ANY);
	}
}

static __always_inline void on_close(struct bpf_sock *sk)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, 0);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct isn_pair key;
	struct totals *sums;

	if (!state || !tp)
		return;
	sums = totals_of(state->netns);
	if (sums) {
		add(&sums->redirected_bytes, state->redirected_bytes);
		add(&sums->redirected_messages, state->redirected_messages);
		add(&sums->tcp_bytes, tp->bytes_sent - tp->bytes_retrans);
		add(&sums->tcp_messages, state->tcp_messages);
	}
	return_window(state);
	if (state->backlog_high)
		keep_backlog_high(state->peer_netns, state->backlog_high);
	if (state->role == ROLE_ACTIVE && know_peer(state))
		remember_worth(tp, state);
	key = flow_key(state);
	bpf_map_delete_elem(&flows, &key);
	key = state->self;
	/* What is asked of it from now on, TCP answers best. Bytes that wait can still be read, so then it stays. */
	if (!redirected_bytes_wait(&tp->inet_conn.icsk_inet.sk))
		bpf_map_delete_elem(&sockets, &key);
	/* The socket may be disconnected rather than freed, and connect again. */
	bpf_sk_storage_delete(&states, sk);
}
