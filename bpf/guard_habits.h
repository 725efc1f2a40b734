/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Common to all guards: is a socket in a sockmap, counting an error that a guard returns, noting a habit. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "avoid.h"
#include "maps.h"
#include "totals.h"

/* Returns error, and counts it as event if it is not 0. */
static __always_inline long counted(long error, enum event event)
{
	if (error)
		count_event(event);
	return error;
}

/* Two loads, for every receive and send of the node, so that guards return early. */
static __always_inline bool in_sockmap(struct sock *sk)
{
	return sk && ((unsigned long)sk->sk_user_data & SK_USER_DATA_PSOCK);
}

/* Another thread may note other habits at the same time. */
static __always_inline void note_habits(struct sock *sk, struct sock_state *state, __u32 habits)
{
	if ((state->habits & habits) == habits)
		return;
	__sync_fetch_and_or(&state->habits, habits);
	count_event(habits & HABIT_BLOCKS ? EVENT_BLOCKING_NOTED : EVENT_HABIT_NOTED);
	avoid_later_connections(state->role == ROLE_ACTIVE ? bpf_skc_to_tcp_sock(sk) : NULL, state, habits);
}
