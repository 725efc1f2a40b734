/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A redirect takes the reader's lock, and sleeps while a call of the reader has it, which can only be on another CPU. TCP queues instead, and
 * puts small messages together. So a stream of small messages one way is left to TCP for a while when it finds the lock held again and
 * again, docs/adr/0014. Only such a stream: where the reader answers, its answers go by redirect and carry no acknowledgement, for which
 * TCP would hold the next small message back.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "change.h"
#include "maps.h"
#include "peer.h"

#define CONTENDED_BYTES	   512 /* larger messages are redirected in any case, until a stream of them leaves, see gain.h */
#define CONTENDED_FINDS	   4   /* times that the lock was found held, without a word from the reader in between */
#define CONTENDED_MESSAGES 64  /* that go by TCP then, each with a reader that has caught up, before the lock is looked at again */

/* held: the reader has bytes waiting, and a call of its program holds its lock. */
static __always_inline enum reason against_small(struct sock_state *state, struct tcp_sock *tp, bool held, __u32 size)
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
	/*
	 * A call that holds the lock now began before this message: its program looks for events again afterwards.
	 */
	if (!state->left_to_tcp || (!held && !may_change(state, 0)))
		return REASON_NONE;
	state->left_to_tcp--;
	return REASON_CONTENDED;
}
