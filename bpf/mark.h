/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP_NOTSENT_LOWAT of paired sockets, called the mark: how much TCP queues before it stops a writer.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "maps.h"
#include "peer_socket.h"
#include "socket.h"
#include "window.h"

/*
 * TCP stops a writer that outruns its reader. By default megabytes are queued by then, so there are always
 * unread TCP bytes, and such a stream would never be redirected again. With a low mark the writer waits as
 * soon as the reader's window is used up, and the reader catches up with one read. A mark that the program
 * has set itself is not changed. While observers run, a direction begins on TCP, and programs may rely on
 * what TCP queues before anybody reads: then the mark begins high. ctx: that of a callback, or the socket
 * itself.
 */
static __always_inline void set_mark(void *ctx, struct tcp_sock *tp, __u32 mark)
{
	if ((!tp->notsent_lowat || is_our_mark(tp->notsent_lowat)) && tp->notsent_lowat != mark)
		bpf_setsockopt(ctx, SOL_TCP, TCP_NOTSENT_LOWAT, &mark, sizeof(mark));
}

static __always_inline void set_low_mark(struct bpf_sock_ops *ops, struct tcp_sock *tp)
{
	set_mark(ops, tp, NOTSENT_MARK);
}

static __always_inline void set_first_mark(struct bpf_sock_ops *ops, struct tcp_sock *tp)
{
	set_mark(ops, tp, learning() ? NOTSENT_MARK_FRESH : NOTSENT_MARK);
}

/* The socket leaves, so its mark becomes what it was. */
static __always_inline void clear_mark(void *ctx, struct tcp_sock *tp)
{
	set_mark(ctx, tp, 0);
}

/*
 * Has the reader taken nothing since this sender changed to TCP, while less may wait for it than TCP alone
 * would queue?
 */
static __always_inline bool needs_high_mark(const struct sock_state *state)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	if (!cfg || state->mode != MODE_TCP || !state->mixed_seq || is_whole(window_of(state, cfg), cfg))
		return false;
	return peer_copied_seq(state->peer_sk) == state->mixed_seq;
}

/*
 * The sender's side. While the reader takes nothing, TCP may queue as much as it would without us: programs
 * rely on that when both ends write before they read. When the reader continues, the mark is low again.
 */
static __always_inline void update_mark(struct bpf_sock_ops *ops, struct sock_state *state,
					struct tcp_sock *tp)
{
	if (needs_high_mark(state))
		clear_mark(ops, tp);
	else if (!tp->notsent_lowat)
		set_low_mark(ops, tp);
}
