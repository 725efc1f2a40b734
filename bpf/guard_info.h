/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Corrects what getsockopt(2) returns for a paired socket, in the caller's buffer. */
#pragma once

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "maps.h"
#include "peer.h"
#include "socket.h"
#include "totals.h"

/*
 * TCP_INFO as if redirected messages had been sent over TCP: each as one segment, acknowledged at once. The
 * caller's buffer may end before any field.
 */
#define WITHIN(info, field, ctx) ((void *)(&(info)->field + 1) <= (ctx)->optval_end)
#define ADD(info, field, ctx, amount)            \
	do {                                     \
		if (WITHIN(info, field, ctx))    \
			(info)->field += amount; \
	} while (0)

static __always_inline void limit_age(__u32 *age_ms, __u32 then)
{
	__u32 ms = ((__u64)(precise_ticks() - then) << TICK_SHIFT) / 1000000;

	if (then && ms < *age_ms)
		*age_ms = ms;
}

static __always_inline void add_sent(struct bpf_sockopt *ctx, struct tcp_info *info,
				     const struct sock_state *state)
{
	ADD(info, tcpi_bytes_acked, ctx, state->redirected_bytes);
	ADD(info, tcpi_bytes_sent, ctx, state->redirected_bytes);
	ADD(info, tcpi_segs_out, ctx, state->redirected_messages);
	ADD(info, tcpi_data_segs_out, ctx, state->redirected_messages);
	if (WITHIN(info, tcpi_last_data_sent, ctx))
		limit_age(&info->tcpi_last_data_sent, state->redirected_at);
}

static __always_inline void add_received(struct bpf_sockopt *ctx, struct tcp_info *info,
					 const struct sock_state *state)
{
	struct redirected got = redirected_by_peer(state);

	ADD(info, tcpi_bytes_received, ctx, got.bytes);
	ADD(info, tcpi_segs_in, ctx, got.messages);
	ADD(info, tcpi_data_segs_in, ctx, got.messages);
	if (WITHIN(info, tcpi_last_data_recv, ctx))
		limit_age(&info->tcpi_last_data_recv, redirected_at_of_peer(state));
}

static __always_inline void complete_info(struct bpf_sockopt *ctx)
{
	struct tcp_info *info = ctx->optval;
	struct sock_state *state;

	if (!ctx->sk)
		return;
	state = bpf_sk_storage_get(&states, ctx->sk, NULL, 0);
	/* Also after the socket has left the sockhash: counters must not decrease. */
	if (!state)
		return;
	count_event(EVENT_ANSWER_CORRECTED);
	add_sent(ctx, info, state);
	add_received(ctx, info, state);
}

/* Hides a mark that the program has not set itself, see mark.h and docs/adr/0006. */
static __always_inline void hide_mark(struct bpf_sockopt *ctx)
{
	__u32 *mark = ctx->optval;

	if ((void *)(mark + 1) <= ctx->optval_end && is_our_mark(*mark)) {
		*mark = 0;
		count_event(EVENT_ANSWER_CORRECTED);
	}
}
