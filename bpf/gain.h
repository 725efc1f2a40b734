/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Does a flow gain by being redirected? If it loses, or stays on TCP anyway, it leaves the sockhash and is
 * plain TCP again (leaving.h, docs/adr/0018). That is final, so the decision takes many messages. The numbers
 * are measured: docs/PERFORMANCE.md.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "commit.h"
#include "contended.h"
#include "peer.h"
#include "peer_socket.h"
#include "window.h"

/*
 * How many messages that lose by being redirected make the flow leave. The count is halved after each
 * LOSSES_HALVED messages, so fewer than six in a hundred never do.
 */
#define LOSSES_CONTENDED 64 /* larger messages of a stream that found the reader's lock held */
#define LOSSES_CORKED	 64
#define LOSSES_PAGES	 16
#define LOSSES_KEPT	 64 /* slices of time in which a message used TCP */
#define LOSSES_MAX	 64
#define LOSSES_HALVED	 512 /* a power of two */
#define LOSSES_FALLBACK	 1   /* weight of a change from redirect to TCP, of up to KEPT_BYTES */
#define LOSSES_MOSTLY	 8   /* weight of a slice of a stream that used TCP for the most part */
#define LOSSES_OPTION	 4   /* weight of a message that uses TCP because of a socket option */
#define SLICE_SHIFT	 2   /* four ticks, about 4 ms: the coarse clock of most kernels has no finer steps */
#define KEPT_BYTES	 8192 /* larger messages gain by redirects although many use TCP */

#define PAGES_SIZE 4096 /* bytes: smaller messages are not tested for pages */

/*
 * A stream of such small messages loses on one CPU, too, because TCP joins them. Within one network namespace
 * a redirect saves little, as there is little below TCP.
 */
#define TINY_BYTES	 128
#define TINY_LOCAL_BYTES 8192
#define TINY_MESSAGES	 1024 /* a power of two: messages between two looks */

#define STREAM_BYTES_SHIFT    20 /* 1 MiB */
#define STREAM_MESSAGES_SHIFT 10
#define STREAM_BEGINS	      4

/*
 * Is it a stream in one direction? It is if it has that many messages, or bytes, for each answer, redirected
 * or over TCP, plus STREAM_BEGINS. bytes_sent and segs_in: of struct tcp_sock, data only.
 */
static __always_inline bool is_stream(const struct sock_state *state, __u64 bytes_sent, __u32 segs_in)
{
	__u64 answers = messages_redirected_by_peer(state), sent;

	sent = (state->redirected_bytes + bytes_sent) >> STREAM_BYTES_SHIFT;
	sent += (state->redirected_messages + state->tcp_messages) >> STREAM_MESSAGES_SHIFT;
	return sent > answers + segs_in + STREAM_BEGINS;
}

/*
 * Is this message sent by sendfile(2) or the like? Then its pages are in the pipe of the task. TCP sends them
 * as they are; a redirect copies them.
 */
static __always_inline bool sends_pages(__u32 size)
{
	struct task_struct *task;
	struct pipe_inode_info *pipe;

	if (size < PAGES_SIZE)
		return false;
	task = (struct task_struct *)bpf_get_current_task();
	pipe = BPF_CORE_READ(task, splice_pipe);
	return pipe && BPF_CORE_READ(pipe, head) != BPF_CORE_READ(pipe, tail);
}

static __always_inline bool is_corked(struct tcp_sock *tp)
{
	return BPF_CORE_READ_BITFIELD(tp, nonagle) & TCP_NAGLE_CORK;
}

/* weight: up to 127, because losses has 8 bits. */
static __always_inline bool loses_often(struct sock_state *state, __u8 weight, __u8 often)
{
	__u8 losses = state->losses + weight;

	state->losses = losses < LOSSES_MAX ? losses : LOSSES_MAX;
	return state->losses >= often;
}

/* A message is redirected. It is counted, and halves losses from time to time. */
static __always_inline void count_redirected(struct sock_state *state, __u32 size)
{
	state->redirected_messages++;
	state->redirected_bytes += size;
	if (!(state->redirected_messages % LOSSES_HALVED))
		state->losses >>= 1;
}

/* messages and bytes: those that travelled like the one that is asked about. */
static __always_inline bool are_small(const struct sock_state *state, __u64 messages, __u64 bytes)
{
	__u32 small = state->netns == state->peer_netns ? TINY_LOCAL_BYTES : TINY_BYTES;

	return messages && !(messages % TINY_MESSAGES) && bytes <= messages * small;
}

enum how {
	HOW_HELD = 1,	/* the reader's lock is held */
	HOW_CORKED = 2, /* under TCP_CORK */
};

/*
 * Why a flow that may be redirected should leave, enum reason; REASON_NONE: it gains. how: bits of enum how.
 * Not inlined, so that the verifier checks it once.
 */
__attribute__((noinline)) int against_gain(struct sock_state *state, __u64 bytes_sent, __u32 segs_in,
					   __u32 size, __u32 how)
{
	if (!state)
		return REASON_NONE;
	if ((how & HOW_HELD) && size > CONTENDED_BYTES && loses_often(state, 1, LOSSES_CONTENDED) &&
	    is_stream(state, bytes_sent, segs_in))
		return REASON_CONTENDED;
	if ((how & HOW_CORKED) && loses_often(state, 1, LOSSES_CORKED))
		return REASON_CORKED;
	if (sends_pages(size) && loses_often(state, 1, LOSSES_PAGES))
		return REASON_PAGES;
	if (are_small(state, state->redirected_messages, state->redirected_bytes) &&
	    is_stream(state, bytes_sent, segs_in))
		return REASON_SMALL;
	return REASON_NONE;
}

/*
 * Has the reader taken nothing since this sender changed to TCP, or nothing of what was ever sent over TCP?
 * When it continues, redirects may gain again.
 */
static __always_inline bool reader_is_stuck(const struct sock_state *state)
{
	__u32 taken = peer_copied_seq(state->peer_sk);

	return taken == state->self.own + 1 || (state->mixed_seq && taken == state->mixed_seq);
}

/*
 * Called for a message that uses TCP: will that stay so, and is plain TCP better for the flow? After any
 * reason follows REASON_UNREAD, until the reader has taken what was sent over TCP, and it may last longer. So
 * the reason that came first counts.
 */
static __always_inline bool stays_on_tcp(struct sock_state *state, struct tcp_sock *tp, enum reason reason,
					 __u32 size)
{
	__u8 weight = now_ticks() >> SLICE_SHIFT != state->sent_by_tcp_at >> SLICE_SHIFT;

	if (reason == REASON_UNREAD && state->mode == MODE_TCP && !is_one(state->reason, REASONS_THAT_PASS))
		reason = state->reason;
	if (is_one(reason, REASONS_THAT_LAST))
		return true;
	if (is_one(reason, REASONS_THAT_PASS))
		return false;
	if (are_small(state, state->tcp_messages, tp->bytes_sent) &&
	    is_stream(state, tp->bytes_sent, tp->data_segs_in))
		return !reader_is_stuck(state);
	if (is_one(reason, REASONS_OF_OPTIONS))
		weight = LOSSES_OPTION;
	else if (weight && state->tcp_messages > state->redirected_messages &&
		 is_stream(state, tp->bytes_sent, tp->data_segs_in))
		weight = LOSSES_MOSTLY;
	else if (state->mode == MODE_REDIRECT && size <= KEPT_BYTES)
		weight += LOSSES_FALLBACK;
	return weight && !reader_is_stuck(state) && loses_often(state, weight, LOSSES_KEPT);
}
