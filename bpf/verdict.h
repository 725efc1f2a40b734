/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* May this message be redirected? Run for every send(2) of a socket in the sockhash, under its lock. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "maps.h"
#include "change.h"
#include "contended.h"
#include "gain.h"
#include "helpers.h"
#include "memory.h"
#include "wake.h"
#include "window.h"
#include "commit.h"
#include "peer.h"
#include "peer_socket.h"
#include "policy.h"
#include "socket.h"

/* Do the policies deny the flow? Asked again when the epoch has changed. */
static __always_inline bool denied(struct tcp_sock *tp, struct sock_state *state, const struct config *cfg)
{
	__u32 epoch = epoch_of(cfg);

	if (state->epoch != epoch) {
		epoch_before_policies();
		state->denied = !flow_permitted(state->netns, state->peer_netns, state->port, &state->ends) ||
				helper_reads_flow(tp, state, cfg);
		state->epoch = epoch;
	}
	return state->denied;
}

static __always_inline enum reason against_reader(struct observed observed)
{
	if (observed.habits & HABIT_WAITALL)
		return REASON_WAITALL;
	if (observed.habits & HABIT_BLOCKS)
		return REASON_BLOCKING;
	if (observed.habits & HABIT_DISCARD)
		return REASON_DISCARD;
	if (observed.habits & HABIT_SPLICE)
		return REASON_SPLICE;
	return observed.reader == READER_READY ? REASON_NONE : REASON_LEARNING;
}

/*
 * Redirects before the reader's first receive call. HABIT_REDIRECTS_EARLY is set first, then the reader's
 * state is read once more. A reader whose first call waits after all sets its state first, then looks for our
 * habit before it leaves (leaving.h). Both writes are full barriers, so at least one side sees the other's.
 */
static __always_inline enum reason redirect_early(struct sock_state *state)
{
	struct observed observed;

	if (!(state->habits & HABIT_REDIRECTS_EARLY)) {
		__u32 before = __sync_fetch_and_or(&state->habits, HABIT_REDIRECTS_EARLY);

		barrier_var(before); /* else the compiler takes an instruction that is no barrier */
	}
	observed = observed_of_peer(state);
	if (observed.reader == READER_UNKNOWN)
		observed.reader = READER_READY;
	return against_reader(observed);
}

/*
 * While observers run, a direction stays on TCP until it is known how its reader receives. So a reader that
 * waits inside receive calls, or uses their flags, is known before a byte is redirected to it. The first
 * receive call shows it, and before that an epoll set. A reader that has left is in no sockhash, so a stale
 * hint cannot redirect to it.
 */
static __always_inline enum reason against_habits(struct sock_state *state, const struct config *cfg)
{
	struct observed observed;
	enum reason reason;

	if (!cfg->learn)
		return REASON_NONE;
	if (state->habits & HABIT_OOB)
		return REASON_OOB;
	/* It leaves the sockhash when TCP data that it sends is answered. */
	if (state->reader == READER_PLAIN)
		return REASON_BLOCKING;
	observed = observed_of_peer(state);
	reason = against_reader(observed);
	if (reason == REASON_LEARNING && observed.reader == READER_UNKNOWN &&
	    peer_awaits_events(state->peer_sk))
		return redirect_early(state);
	return reason;
}

/*
 * May a receive call of the active end have begun before the handshake ended? It sleeps in TCP's code, where
 * only bytes over TCP wake it; the first of those ends it, and later calls find redirected bytes. An event
 * loop does not sleep in receive calls. If anything was redirected, this test was passed before. A guard
 * keeps clients out whose descriptors block when the handshake ends.
 */
static __always_inline bool sleeps_since_handshake(const struct sock_state *state, const struct config *cfg,
						   const struct peer_view *peer)
{
	if (state->role != ROLE_PASSIVE || state->redirected_messages || (cfg->learn & LEARN_BLOCKING))
		return false;
	return peer->copied_seq == state->self.own + 1 && !peer_awaits_events(state->peer_sk);
}

/* Options that a program set on its socket and that redirected bytes would not respect. */
static __always_inline enum reason against_options(struct tcp_sock *tp, const struct peer_view *peer)
{
	if (zerocopy(tp))
		return REASON_ZEROCOPY;
	if (peer->rcvlowat > 1)
		return REASON_RCVLOWAT;
	if (peer->inq)
		return REASON_INQ;
	if (peer->filter || peer->peek_off >= 0 || stamps_receives(peer->flags) || stamps_sends(tp))
		return REASON_OPTION;
	return REASON_NONE;
}

/*
 * Redirected bytes are no packets, so conntrack, IPVS and the like forget a busy connection as if it were
 * idle. One message over TCP in each natRefreshSeconds prevents that. It waits until the reader has caught
 * up, but at most twice the time.
 */
static __always_inline bool refresh_due(const struct sock_state *state, const struct config *cfg, __u32 now)
{
	__u32 silent = now - state->sent_by_tcp_at;

	if (!cfg->refresh_ticks || silent < cfg->refresh_ticks)
		return false;
	return silent >= 2 * cfg->refresh_ticks || may_change(state, 0);
}

static __always_inline bool memory_lacks(struct sock_state *state, __u32 size, __u32 now)
{
	enum memory left = memory_for(state, size, now);

	return left == MEMORY_SHORT || (left == MEMORY_LOW && may_change(state, 0));
}

/*
 * This message uses TCP, for enum reason. If all others should, too, the end commits to TCP. Not inlined, so
 * that the verifier checks it once.
 */
__attribute__((noinline)) int leave_if_it_gains_nothing(struct sk_msg_md *msg, struct sock_state *state,
							__u32 reason)
{
	struct tcp_sock *tp;
	struct bpf_sock *sk;

	if (!msg || !state || has_committed(state) || !state->peer_sk)
		return 0;
	sk = msg->sk;
	tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	return tp && stays_on_tcp(state, tp, reason, msg->size) && commit_in_verdict(msg, state, tp);
}

/*
 * Why this message uses TCP; REASON_NONE: redirect it. The order of the tests is the order in
 * docs/DATAPATH.md.
 *
 * The reader takes redirected bytes before TCP bytes. So a redirect keeps the order only if the reader's
 * program has read everything sent over TCP: our write_seq (stable, as we hold the lock) equals its
 * copied_seq (which only grows). Acknowledged does not mean read. It is tested for each message, which also
 * covers bytes that TCP sent without running the verdict (Fast Open).
 */
static __always_inline enum reason why_tcp(struct sk_msg_md *msg, struct bpf_sock *sk,
					   struct sock_state *state, struct config *cfg, __u32 now)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct peer_view peer;
	enum reason reason;
	bool held;

	if (has_committed(state))
		return state->mode == MODE_TCP ? state->reason : REASON_LEAVING;
	if (!tp || (cfg->disabled && may_change(state, cfg->disabled_ns)))
		return REASON_DISABLED;
	/* After shutdown(SHUT_WR) a redirected send would succeed; TCP refuses it. */
	if (sk->state != BPF_TCP_ESTABLISHED && sk->state != BPF_TCP_CLOSE_WAIT)
		return REASON_STATE;
	if (tp->inet_conn.icsk_ulp_ops)
		return REASON_ULP;
	if (!know_peer(state)) {
		/* Counted once for each socket: after its first message the mode is MODE_TCP. */
		if (state->mode == MODE_PENDING && sk->state == BPF_TCP_ESTABLISHED &&
		    rendezvous_missing(state))
			count_event(EVENT_RENDEZVOUS_LOST);
		return REASON_NO_PEER;
	}
	if (denied(tp, state, cfg) && may_change(state, cfg->epoch_ns))
		return REASON_POLICY;
	peer = look_at_peer(state->peer_sk);
	if (peer.ulp)
		return REASON_ULP;
	if (peer.shutdown & RCV_SHUTDOWN)
		return REASON_SHUTDOWN;
	reason = against_options(tp, &peer);
	if (reason == REASON_NONE)
		reason = against_habits(state, cfg);
	if (reason != REASON_NONE)
		return reason;
	if (tp->write_seq != peer.copied_seq)
		return REASON_UNREAD;
	if (refresh_due(state, cfg, now))
		return REASON_REFRESH;
	held = peer.owned && peer.backlog_bytes;
	reason = against_small(state, tp, held, msg->size);
	if (reason != REASON_NONE)
		return reason;
	reason = against_gain(state, tp->bytes_sent, tp->data_segs_in, msg->size,
			      (held ? HOW_HELD : 0) | (is_corked(tp) ? HOW_CORKED : 0));
	if (reason != REASON_NONE && commit_in_verdict(msg, state, tp))
		return reason;
	if (sleeps_since_handshake(state, cfg, &peer))
		return REASON_EARLY;
	if (memory_lacks(state, msg->size, now))
		return REASON_MEMORY;
	if (fills_buffer(state, peer.backlog_bytes, msg->size, peer.rcvbuf))
		return REASON_BACKLOG_BYTES;
	return over_bounds(state, cfg, peer.backlog_bytes, sndbuf_bound(tp, peer.rcvbuf), msg->size);
}
