/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Wakes a reader that may miss an edge. If redirected bytes and TCP bytes wait at the same time, one receive
 * call returns only the redirected ones. An edge-triggered program that takes the short read for the end then
 * waits for an edge that does not come, see docs/adr/0016. The sender notes where it changed to TCP with
 * unread redirected bytes (mixed_seq). The reader's callback for each segment that it sends, also for
 * acknowledgements, wakes such a reader once the redirected bytes are taken: setting SO_RCVLOWAT makes the
 * kernel look for something to read (since 6.1). While redirected bytes wait, keepalive probes make sure that
 * there is a next callback.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "commit.h"
#include "leaving.h"
#include "maps.h"
#include "mark.h"
#include "peer.h"
#include "socket.h"
#include "totals.h"

#define PROBE_SECONDS	  1
#define PROBES_TIMEOUT_MS (24 * 24 * 3600 * 1000U) /* 24 days, which an int can hold */

/* The sender's side: its message uses TCP while redirected bytes wait for the reader. */
static __always_inline void note_mixed(struct sock_state *state, struct bpf_sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (tp)
		state->mixed_seq = tp->write_seq;
}

/*
 * On some kernels FIONREAD omits what came over TCP. A program that asks after each read takes any read for
 * the last, so it must be woken again and again until the sender redirects.
 */
static __always_inline bool fionread_omits_tcp(void)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	return cfg && open_hazard(cfg, HAZARD_FIONREAD_TCP);
}

/* Has the reader taken nothing over TCP since its peer changed to TCP with unread redirected bytes? */
static __always_inline bool may_miss_an_edge(const struct sock_state *state, struct tcp_sock *tp)
{
	__u32 mixed_seq;

	if (!state->peer_state || tp->rcv_nxt == tp->copied_seq)
		return false;
	mixed_seq = mixed_seq_of_peer(state);
	return mixed_seq && (mixed_seq == tp->copied_seq || fionread_omits_tcp());
}

static __always_inline void set_keepalive(struct bpf_sock_ops *ops, const struct keepalive *to)
{
	__u32 on = to->on, idle = to->idle_seconds, interval = to->interval_seconds,
	      timeout = to->user_timeout_ms;

	bpf_setsockopt(ops, SOL_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	bpf_setsockopt(ops, SOL_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	bpf_setsockopt(ops, SOL_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	bpf_setsockopt(ops, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static __always_inline bool get_keepalive(struct bpf_sock_ops *ops, struct keepalive *to)
{
	__u32 on = 0, idle = 0, interval = 0, timeout = 0;

	if (bpf_getsockopt(ops, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) ||
	    bpf_getsockopt(ops, SOL_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)) ||
	    bpf_getsockopt(ops, SOL_TCP, TCP_KEEPINTVL, &interval, sizeof(interval)) ||
	    bpf_getsockopt(ops, SOL_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout)))
		return false;
	*to = (struct keepalive){
		.on = on, .idle_seconds = idle, .interval_seconds = interval, .user_timeout_ms = timeout
	};
	return true;
}

/*
 * The program's settings are kept in keepalives, which only such sockets have. Before 6.1 they cannot be
 * read. A probe may stay unanswered on a healthy connection: redirected bytes fill the receive buffer, the
 * kernel drops what comes over TCP, and the peer's answer is out of the window. With TCP_USER_TIMEOUT the
 * kernel does not count unanswered probes.
 */
static __always_inline void begin_probes(struct bpf_sock_ops *ops, struct bpf_sock *sk,
					 struct sock_state *state)
{
	struct keepalive probes = {
		.on = 1,
		.idle_seconds = PROBE_SECONDS,
		.interval_seconds = PROBE_SECONDS,
		.user_timeout_ms = PROBES_TIMEOUT_MS,
	};
	struct keepalive *own;

	if (state->ends & END_PROBED)
		return;
	own = bpf_sk_storage_get(&keepalives, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!own || !get_keepalive(ops, own))
		return;
	state->ends |= END_PROBED;
	set_keepalive(ops, &probes);
}

/* Not before the last probe was answered: the program's settings would count unanswered ones. */
static __always_inline void end_probes(struct bpf_sock_ops *ops, struct bpf_sock *sk,
				       struct sock_state *state, struct tcp_sock *tp)
{
	struct keepalive *own;

	if (!(state->ends & END_PROBED) || tp->inet_conn.icsk_probes_out)
		return;
	state->ends &= ~END_PROBED;
	own = bpf_sk_storage_get(&keepalives, sk, NULL, 0);
	if (!own)
		return;
	set_keepalive(ops, own);
	bpf_sk_storage_delete(&keepalives, sk);
}

/* This socket is about to send a segment, which may be an acknowledgement. */
static __always_inline void wake_reader(struct bpf_sock_ops *ops, struct bpf_sock *sk,
					struct sock_state *state, struct tcp_sock *tp)
{
	__u32 one_byte = 1;

	if (!may_miss_an_edge(state, tp))
		return end_probes(ops, sk, state, tp);
	if (redirected_bytes_wait(&tp->inet_conn.icsk_inet.sk))
		return begin_probes(ops, sk, state);
	/* A program that has set SO_RCVLOWAT itself is on TCP, and the kernel wakes it. */
	if (tp->inet_conn.icsk_inet.sk.sk_rcvlowat > 1)
		return;
	count_event(EVENT_READER_WOKEN);
	bpf_setsockopt(ops, SOL_SOCKET, SO_RCVLOWAT, &one_byte, sizeof(one_byte));
}

static __always_inline void on_segment(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, 0);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!state || !tp)
		return;
	if (state->left)
		return leave_callbacks(ops, state); /* the iterator that made it leave cannot */
	if (!know_peer(state))
		return;
	wake_reader(ops, sk, state, tp);
	update_mark(ops, state, tp);
	limit_window_clamp(ops, tp);
	/* It was woken just now, and after it has left the kernel wakes it. */
	if ((state->ends & END_PROBED) && peer_has_committed(state) &&
	    !redirected_bytes_wait(&tp->inet_conn.icsk_inet.sk))
		end_probes(ops, sk, state, tp);
	leave_if_both_committed(ops, state, tp);
}
