/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A redirect takes the reader's lock. It sleeps while a call of the reader on another CPU holds it. TCP
 * queues instead, and joins small messages. So a stream of small messages in one direction uses TCP for a
 * while when it finds the lock held again and again, see docs/adr/0014. Flows whose reader answers are left
 * alone: redirected answers carry no acknowledgement, and TCP would hold back the next small message until
 * one comes.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "change.h"
#include "maps.h"
#include "peer.h"

#define CONTENDED_BYTES	   512 /* larger messages are redirected anyway, until gain.h makes them leave */
#define CONTENDED_FINDS	   4   /* times in a row that the lock was held and the reader had not answered */
#define CONTENDED_MESSAGES 64  /* messages that then use TCP */

/* held: the reader has bytes waiting, and a call of its program holds its lock. */
static __always_inline enum reason against_small(struct sock_state *state, struct tcp_sock *tp, bool held,
						 __u32 size)
{
	__u32 now;

	if (size > CONTENDED_BYTES || (!held && !state->left_to_tcp))
		return REASON_NONE;
	now = peer_progress(state, tp);
	if (now != state->last_progress) {
		state->last_progress = now;
		state->losses = 0;
		state->left_to_tcp = 0;
	}
	if (held && ++state->losses >= CONTENDED_FINDS) {
		state->losses = 0;
		state->left_to_tcp = CONTENDED_MESSAGES;
	}
	/* A call that holds the lock began before this message, so its program polls again afterwards. */
	if (!state->left_to_tcp || (!held && !may_change(state, 0)))
		return REASON_NONE;
	state->left_to_tcp--;
	return REASON_CONTENDED;
}
