/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * No pod can fill the sockhash. shares[netns] counts the sockets of each pod there. While the sockhash is
 * more than half full, a pod that holds more than a quarter of it gets no more.
 *
 * A socket is counted when it enters (END_COUNTED) until it leaves. If no callback runs at its end, because
 * the link of its cgroup is gone or because it was closed with unread redirected bytes, it stays counted
 * until user space counts again (CountShares).
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "maps.h"

static __always_inline struct share *share_of(const struct sock_state *state)
{
	__u64 key = state->ends & END_SHARE_UNREGISTERED ? 0 : state->netns;

	return bpf_map_lookup_elem(&shares, &key);
}

/* The entry that counts a new socket. It stays the same if the network namespace is registered later. */
static __always_inline struct share *choose_share(struct sock_state *state)
{
	struct share *share = share_of(state);

	if (share)
		return share;
	state->ends |= END_SHARE_UNREGISTERED;
	return share_of(state);
}

/* By the kernel's own count of the sockhash. If that cannot be read, the sockhash counts as full. */
static __always_inline bool half_full(const struct bpf_shtab *sockhash)
{
	if (!bpf_core_field_exists(sockhash->count))
		return true;
	return (__u32)sockhash->count.counter > sockhash->map.max_entries / 2;
}

static __always_inline bool has_its_share(const struct share *share)
{
	const struct bpf_shtab *sockhash = (const struct bpf_shtab *)&sockets;

	return share && share->sockets > (__s32)(sockhash->map.max_entries / SHARE_DIVISOR) &&
	       half_full(sockhash);
}

/*
 * May a new socket enter the sockhash? RESULT_JOINED: it may, and share is where to count it. Every limit of
 * a pod's sockets is asked here.
 */
static __always_inline enum result ask_share(struct sock_state *state, struct share **share)
{
	*share = choose_share(state);
	return has_its_share(*share) ? RESULT_SHARE : RESULT_JOINED;
}

static __always_inline void count_in(struct sock_state *state, struct share *share)
{
	if (!share)
		return;
	__sync_fetch_and_add(&share->sockets, 1);
	state->ends |= END_COUNTED;
}

/* The entry may be a new one, if the network namespace was registered again, so it never falls below 0. */
static __always_inline void count_out(struct sock_state *state)
{
	struct share *share;

	if (!(state->ends & END_COUNTED))
		return;
	state->ends &= ~END_COUNTED;
	share = share_of(state);
	if (share && share->sockets > 0)
		__sync_fetch_and_add(&share->sockets, -1);
}
