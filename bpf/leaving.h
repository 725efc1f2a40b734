/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an end finds out about the other after the handshake, and when a socket leaves the sockhash again: while nothing
 * was redirected to it, and only then.
 */
#pragma once

#include "oath.h"
#include "pairing.h"
#include "window.h"

/* The active end learns who joined at the first answer, or when it sends before that. */
static __always_inline bool know_peer(struct sock_state *state)
{
	struct isn_pair key;
	struct flow *flow;

	if (state->peer_sk)
		return true;
	key = flow_key(state);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return false;
	return state->role == ROLE_ACTIVE ? meet_passive(state, flow) : meet_late_active(state, flow);
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
	if (meet_passive(state, flow))
		return false;
	result = flow->kept_out ? flow->kept_out : RESULT_REMOTE;
	remember(tp, netns, result);
	bpf_map_delete_elem(&flows, &self);
	leave_callbacks(ops, state);
	forget(sk, state);
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

/*
 * Whoever redirects while no observer runs says nothing, and they may come later, with an upgrade. Counted
 * before the bytes are queued, so this covers those on their way.
 */
static __always_inline bool peer_has_redirected(const struct sock_state *state)
{
	const struct sock_state *peer = (const struct sock_state *)state->peer_state;
	__u64 messages = 0;

	if (peer)
		bpf_probe_read_kernel(&messages, sizeof(messages), &peer->redirected_messages);
	return messages;
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
	give_tcp_its_length(ctx, tp);
	give_back_window(ctx, tp);
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
static __always_inline bool swear_for_others(struct sock_state *state, struct tcp_sock *tp, enum reason why)
{
	if (has_sworn(state))
		return true;
	if (!swear(state, tp, 0))
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
static __always_inline void follow_oath(struct bpf_sock_ops *ops, struct sock_state *state, struct tcp_sock *tp)
{
	if (peer_has_sworn(state) && swear_for_others(state, tp, REASON_LEAVING))
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
	if (((unsigned long)full->sk_user_data & SK_USER_DATA_PSOCK) || full->sk_receive_queue.qlen)
		return;
	if (full->sk_backlog.rmem_alloc.counter > 0) {
		peer = mirrored(state->self);
		bpf_map_update_elem(&resets, &peer, &untold, BPF_ANY);
	}
}

/*
 * Has this connection left because it was a stream that gains nothing? The end that sent it knows; of the
 * other's state all is a hint.
 */
static __always_inline bool was_a_stream(const struct sock_state *state)
{
	const struct sock_state *peer = (const struct sock_state *)state->peer_state;
	__u8 theirs = REASON_NONE;

	if (!state->left)
		return false;
	if (is_one(state->reason, REASONS_TO_REMEMBER))
		return true;
	if (peer)
		bpf_probe_read_kernel(&theirs, sizeof(theirs), &peer->reason);
	return is_one(theirs, REASONS_TO_REMEMBER) && still_the_peers(state);
}

static __always_inline void remember_end(struct tcp_sock *tp, const struct sock_state *state)
{
	if (was_a_stream(state))
		remember(tp, state->netns, RESULT_STREAM);
	else
		remember_worth(tp, state);
}

static __always_inline void add_to_totals(const struct sock_state *state, struct tcp_sock *tp)
{
	struct totals *sums = totals_of(state->netns);

	if (sums) {
		add(&sums->redirected_bytes, state->redirected_bytes);
		add(&sums->redirected_messages, state->redirected_messages);
		add(&sums->tcp_bytes, tp->bytes_sent - tp->bytes_retrans);
		add(&sums->tcp_messages, state->tcp_messages);
	}
	if (state->backlog_high)
		keep_backlog_high(state->peer_netns, state->backlog_high);
}

static __always_inline void delete_flow(const struct sock_state *state, struct tcp_sock *tp)
{
	struct isn_pair key = flow_key(state);
	const struct flow *flow = bpf_map_lookup_elem(&flows, &key);

	if (flow && (state->role == ROLE_ACTIVE ? flow->active_sk : flow->passive_sk) == (__u64)tp)
		bpf_map_delete_elem(&flows, &key);
}

/*
 * The connection goes from `old` to CLOSE. By connect(2) to AF_UNSPEC, which throws away what TCP has
 * received? Whatever else closes a socket in these states sets an error before, or has seen the peer's FIN.
 * In others that cannot be told: drop_last_connection.
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
 * Can the program still get redirected bytes: some that wait, or that are on their way? A send of another
 * thread than the one which ended the stream holds the peer's psock from before its verdict until its bytes
 * are queued. What is inside this socket does not matter: its own calls go on without the sockhash, and a
 * socket that was reset must leave it, because there send(2) says ECONNRESET again and again.
 */
static __always_inline bool bytes_may_come(const struct sock_state *state, struct sock *sk)
{
	if (!psock_of(sk)) /* close(2): the kernel has taken it out of the sockhash */
		return false;
	return redirected_bytes_wait(sk) || (state->peer_sk && calls_inside((struct sock *)state->peer_sk));
}

/*
 * What is asked of the socket from now on, TCP answers best. The state stays, for TCP_INFO, and to find the
 * socket in the sockhash if it has to stay there and connects again.
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
	add_to_totals(state, tp);
	return_window(state);
	if (state->role == ROLE_ACTIVE && know_peer(state))
		remember_end(tp, state);
	if (state->habits & HABIT_SPLICE_REFUSED)
		spare_later_ones(tp, state, HABIT_SPLICE);
	delete_flow(state, tp);
	disconnect = is_disconnect(&tp->inet_conn.icsk_inet.sk, ops->args[0]);
	if (disconnect || !bytes_may_come(state, &tp->inet_conn.icsk_inet.sk))
		leave_sockhash(state, tp);
	if (disconnect) {
		give_tcp_its_length(ops, tp);
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
	give_tcp_its_length(ops, tp);
	bpf_sk_storage_delete(&states, sk);
}
