/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The end of a connection: counting, cleaning up, and leaving the sockhash unless bytes wait there. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "avoid.h"
#include "history.h"
#include "leaving.h"
#include "maps.h"
#include "peer.h"
#include "totals.h"

/*
 * The FIN is about to be sent. After close(2) with unread bytes TCP would send a reset instead, but it does
 * not see redirected bytes. So the reset is noted in the map resets, and the guards report it to the peer's
 * program. It is close(2) and not shutdown(2) if the kernel has taken the socket out of the sockhash; its
 * bytes stay charged a little longer.
 */
static __always_inline void on_fin(struct bpf_sock *sk)
{
	struct sock_state *state;
	__u32 untold = RESET_PENDING;
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
	if (((unsigned long)full->sk_user_data & SK_USER_DATA_PSOCK) || full->sk_receive_queue.qlen)
		return;
	if (full->sk_backlog.rmem_alloc.counter > 0) {
		peer = mirrored(state->self);
		bpf_map_update_elem(&resets, &peer, &untold, BPF_ANY);
	}
}

/*
 * Did this connection leave because it was a stream that gains nothing? The end that sent the stream knows.
 */
static __always_inline bool was_a_stream(const struct sock_state *state)
{
	if (!state->left)
		return false;
	if (is_one(state->reason, REASONS_TO_REMEMBER))
		return true;
	return is_one(reason_of_peer(state), REASONS_TO_REMEMBER) && peer_state_is_current(state);
}

static __always_inline void record_outcome(struct tcp_sock *tp, const struct sock_state *state)
{
	if (was_a_stream(state))
		record_history(tp, state->netns, RESULT_STREAM);
	else
		record_gain(tp, state);
}

static __always_inline void delete_rendezvous(const struct sock_state *state, struct tcp_sock *tp)
{
	struct isn_pair key = rendezvous_key(state);
	const struct rendezvous *rv = bpf_map_lookup_elem(&flows, &key);

	if (rv && (state->role == ROLE_ACTIVE ? rv->active_sk : rv->passive_sk) == (__u64)tp)
		bpf_map_delete_elem(&flows, &key);
}

/*
 * The connection goes from state `old` to CLOSE. Is the cause connect(2) with AF_UNSPEC, which discards what
 * TCP has received? Everything else that closes a socket in these states has set an error or seen the peer's
 * FIN. In other states it cannot be known; then see drop_last_connection.
 */
static __always_inline bool is_disconnect(struct sock *sk, __u32 old)
{
	if (sk->sk_err)
		return false;
	if (old == BPF_TCP_FIN_WAIT1 || old == BPF_TCP_FIN_WAIT2)
		return !(sk->sk_shutdown & RCV_SHUTDOWN);
	return old == BPF_TCP_ESTABLISHED || old == BPF_TCP_CLOSE_WAIT;
}

/*
 * Can the program still get redirected bytes, waiting or on their way? A send of another thread of the peer
 * holds the peer's psock from before its verdict until its bytes are queued. Calls inside this socket do not
 * matter: they continue without the sockhash. And a socket that was reset must leave the sockhash, or send(2)
 * would return ECONNRESET again and again.
 */
static __always_inline bool bytes_may_come(const struct sock_state *state, struct sock *sk)
{
	if (!psock_of(sk)) /* close(2): the kernel has taken it out of the sockhash */
		return false;
	return redirected_bytes_wait(sk) || (state->peer_sk && calls_inside((struct sock *)state->peer_sk));
}

/*
 * From now on TCP handles all calls best. The state stays: for TCP_INFO, and to find the socket in the
 * sockhash if it must stay there and connects again.
 */
static __always_inline void on_close(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, 0);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	bool disconnect;

	if (!state || !tp || (state->ends & END_CLOSED))
		return;
	state->ends |= END_CLOSED;
	end_callbacks(ops, state);
	count_closed(state, tp);
	return_window(state);
	if (state->role == ROLE_ACTIVE && know_peer(state))
		record_outcome(tp, state);
	if (state->habits & HABIT_SPLICE_REFUSED)
		avoid_later_connections(tp, state, HABIT_SPLICE);
	delete_rendezvous(state, tp);
	disconnect = is_disconnect(&tp->inet_conn.icsk_inet.sk, ops->args[0]);
	if (disconnect || !bytes_may_come(state, &tp->inet_conn.icsk_inet.sk))
		leave_sockhash(state, tp);
	if (disconnect) {
		clear_mark(ops, tp);
		bpf_sk_storage_delete(&states, sk);
	}
}

/* connect(2): no byte of an earlier connection of this socket may be read on the next one. */
static __always_inline void drop_last_connection(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, 0);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!state || !tp)
		return;
	leave_sockhash(state, tp);
	clear_mark(ops, tp);
	bpf_sk_storage_delete(&states, sk);
}
