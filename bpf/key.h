/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Keys: of one end, of the other end, and of the rendezvous entry where both meet. */
#pragma once

#include <stdbool.h>

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "state.h"

static __always_inline struct isn_pair mirrored(struct isn_pair pair)
{
	return (struct isn_pair){ .own = pair.peer, .peer = pair.own };
}

/* The key of this connection's rendezvous entry: the active end's key. */
static __always_inline struct isn_pair rendezvous_key(const struct sock_state *state)
{
	bool active = state->role == ROLE_ACTIVE;

	return (struct isn_pair){ .own = active ? state->self.own : state->self.peer,
				  .peer = active ? state->self.peer : state->self.own };
}

/*
 * In struct rendezvous an end writes its address last, and the other reads it first. Both use an atomic that
 * fetches, which is a full barrier on every architecture. So an end that finds the address also finds what
 * was written before it.
 */
static __always_inline void publish_address(__u64 *address, __u64 value)
{
	__u64 before = __sync_lock_test_and_set(address, value);

	barrier_var(before); /* the result must be used, or the compiler picks an instruction that is no
				barrier */
}

static __always_inline __u64 published_address(__u64 *address)
{
	__u64 value = __sync_fetch_and_or(address, 0);

	barrier_var(value);
	return value;
}
