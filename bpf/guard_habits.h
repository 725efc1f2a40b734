/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What all guards have in common: whether a socket is theirs, an answer that is counted, and a habit that is noted. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "avoid.h"
#include "maps.h"
#include "totals.h"

/* The answer of a guard that acts, counted. */
static __always_inline long answer(long answer, enum event event)
{
	if (answer)
		count_event(event);
	return answer;
}

/* Two loads, for every receive and send of the node: leave early. */
static __always_inline bool in_sockmap(struct sock *sk)
{
	return sk && ((unsigned long)sk->sk_user_data & SK_USER_DATA_PSOCK);
}

/* Others' habits may be noted at the same time, by another thread. */
static __always_inline void note_habits(struct sock *sk, struct sock_state *state, __u32 habits)
{
	if ((state->habits & habits) == habits)
		return;
	__sync_fetch_and_or(&state->habits, habits);
	count_event(habits & HABIT_BLOCKS ? EVENT_BLOCKING_NOTED : EVENT_HABIT_NOTED);
	avoid_later_connections(state->role == ROLE_ACTIVE ? bpf_skc_to_tcp_sock(sk) : NULL, state, habits);
}
