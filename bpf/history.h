/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is acceleration worth it? Entering and leaving a sockmap costs memory and time. Whether the next connection
 * to a destination enters depends on what earlier ones gained, see docs/adr/0011. Only the active end asks:
 * if it stays out, the passive end finds no rendezvous.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "avoid.h"
#include "maps.h"
#include "peer.h"

#define STREAMS_MAX	       4 /* FRUITLESS_MAX for streams that left the sockhash */
#define LET_IN_EVERY_NS	       (50ULL * 1000 * 1000)
#define LET_IN_AT_ONCE	       32
#define STREAM_LET_IN_EVERY_NS (1000ULL * 1000 * 1000)
#define STREAM_LET_IN_AT_ONCE  4
#define WORTH_MESSAGES	       8 /* redirected both ways */
#define WORTH_BYTES	       (256 * 1024)

/* RESULT_JOINED: the connection may enter. Two at the same time may both enter. */
static __always_inline enum result fruitless(struct tcp_sock *tp, __u64 netns)
{
	struct destination to = destination_of(tp, netns);
	struct history *known = bpf_map_lookup_elem(&history, &to);
	bool stream = known && known->why == RESULT_STREAM;
	__u64 every = stream ? STREAM_LET_IN_EVERY_NS : LET_IN_EVERY_NS;
	__u64 at_once = stream ? STREAM_LET_IN_AT_ONCE : LET_IN_AT_ONCE;
	__u64 now, rested;

	if (!known || known->fruitless < (stream ? STREAMS_MAX : FRUITLESS_MAX))
		return RESULT_JOINED;
	if (avoided_for_now(known))
		return RESULT_AVOIDED;
	if (known->avoided) {
		known->avoided = 0;
		known->fruitless = 0;
		return RESULT_JOINED;
	}
	now = bpf_ktime_get_coarse_ns();
	rested = known->rested_ns > now ? known->rested_ns : now;
	if (rested - now > (at_once - 1) * every)
		return known->why;
	known->rested_ns = rested + every;
	return RESULT_JOINED;
}

/* why: RESULT_JOINED for a connection that was worth it. */
static __always_inline void record_history(struct tcp_sock *tp, __u64 netns, enum result why)
{
	struct destination to = destination_of(tp, netns);
	struct history *known = bpf_map_lookup_elem(&history, &to);
	struct history first = { .fruitless = 1, .why = why };

	if (known && avoided_for_now(known))
		return;
	if (why == RESULT_JOINED) {
		if (known)
			known->fruitless = 0;
	} else if (known && known->why == RESULT_STREAM && why == RESULT_SHORT) {
		return; /* a short connection says nothing about streams */
	} else if (known && known->why != RESULT_STREAM && why == RESULT_STREAM) {
		known->fruitless = 1; /* those before counted towards another bound */
		known->why = why;
	} else if (known) {
		__sync_fetch_and_add(&known->fruitless, 1);
		known->why = why;
	} else {
		bpf_map_update_elem(&history, &to, &first, BPF_NOEXIST);
	}
}

/*
 * When the active end closes. If the other end's state is gone by then, nobody knows what it redirected, and
 * a connection that looks short may not have been.
 */
static __always_inline void record_gain(struct tcp_sock *tp, const struct sock_state *state)
{
	struct redirected theirs = redirected_by_peer(state);
	bool known = peer_state_is_current(state);

	if (!known)
		theirs = (struct redirected){};
	if (state->redirected_messages + theirs.messages >= WORTH_MESSAGES ||
	    state->redirected_bytes + theirs.bytes >= WORTH_BYTES)
		record_history(tp, state->netns, RESULT_JOINED);
	else if (known)
		record_history(tp, state->netns, RESULT_SHORT);
}
