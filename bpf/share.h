/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * No pod takes all of the sockhash. Each counts its sockets there in shares[netns], and from the moment that
 * the sockhash is more than half full one that has more than a quarter of it gets no further ones: the rest
 * is for the others.
 *
 * A socket is counted once, when it has entered (END_COUNTED), and no more when it leaves. Where no callback
 * tells of its end, because the link of its cgroup is gone or because it was closed with redirected bytes
 * unread, it stays counted until user space counts anew.
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

/*
 * The entry in which a new socket is counted, and stays so although its network namespace may be registered
 * later.
 */
static __always_inline struct share *choose_share(struct sock_state *state)
{
	struct share *share = share_of(state);

	if (share)
		return share;
	state->ends |= END_SHARE_UNREGISTERED;
	return share_of(state);
}

/*
 * The kernel's own count of the sockhash, which no program has to keep. Where it cannot be read, the sockhash
 * counts as full.
 */
static __always_inline bool half_full(const struct bpf_shtab *sockhash)
{
	if (!bpf_core_field_exists(sockhash->count))
		return true;
	return (__u32)sockhash->count.counter > sockhash->map.max_entries / 2;
}

static __always_inline bool has_its_share(const struct share *share)
{
	const struct bpf_shtab *sockhash = (const struct bpf_shtab *)&sockets;

	return share && share->sockets > (__s32)(sockhash->map.max_entries / SHARE_DIVISOR) && half_full(sockhash);
}

static __always_inline void count_in(struct sock_state *state, struct share *share)
{
	if (!share)
		return;
	__sync_fetch_and_add(&share->sockets, 1);
	state->ends |= END_COUNTED;
}

/*
 * An entry may have been made anew since, when its network namespace was registered again: it never falls
 * below 0.
 */
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
