/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counting. Never per message: at establishment, when a socket falls back to TCP, and when it closes. */
#pragma once

#include "kernel.h"
#include "maps.h"

static __always_inline struct totals *totals_of(__u64 netns)
{
	struct totals *sums = bpf_map_lookup_elem(&totals, &netns);
	__u64 unregistered = 0;

	return sums ? sums : bpf_map_lookup_elem(&totals, &unregistered);
}

/* Atomic although per CPU: a softirq may run the same program between a load and its store. */
static __always_inline void add(__u64 *counter, __u64 amount)
{
	__sync_fetch_and_add(counter, amount);
}

static __always_inline void count_event(enum event event)
{
	__u32 index = event;
	__u64 *counter = bpf_map_lookup_elem(&events, &index);

	if (counter)
		add(counter, 1);
}

/* A softirq in between may overwrite our maximum or lose its own: there is no atomic maximum. */
static __always_inline void keep_backlog_high(__u64 netns, __u32 bytes)
{
	struct totals *sums = totals_of(netns);

	if (sums && sums->backlog_high < bytes)
		sums->backlog_high = bytes;
}

static __always_inline void count_flow(__u64 netns, enum role role, enum result result)
{
	struct totals *sums = totals_of(netns);
	__u32 index = role * RESULT_ROOM + result;

	/*
	 * The compiler must not bound one copy of the index and use another, which the verifier would not
	 * accept.
	 */
	barrier_var(index);
	if (sums && index < ROLE_MAX * RESULT_ROOM)
		add(&sums->flows[index], 1);
}

/*
 * Not inlined: the verifier must know the reason exactly here, and inlined it would check the rest of the
 * verdict once for each reason. The result means nothing; a global function must return a number.
 */
__attribute__((noinline)) int count_fallback(__u64 netns, __u32 reason)
{
	struct totals *sums = totals_of(netns);

	if (sums && reason < REASON_ROOM)
		add(&sums->fallbacks[reason], 1);
	return 0;
}

static __always_inline void count_closed(const struct sock_state *state, struct tcp_sock *tp)
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
