/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is there memory for these bytes at the reader? A redirect charges them to the reader's socket. If the
 * charge fails, send(2) returns ENOMEM, which TCP never does. So the verdict first looks at what the kernel
 * will check: tcp_mem of the node, and the limits of the reader's memory cgroup and all above it. Both looks
 * leave a margin, because others charge between the look and the charge.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "probe.h"

#define PAGE_BYTES	 4096 /* if the kernel's pages are larger, so are the margins */
#define MEMCG_LEVELS	 8    /* of the hierarchy that are examined: Kubernetes makes five */
#define SK_MEMCG_FLAGS	 3UL  /* bits of sk_memcg that newer kernels keep flags in */
#define MAX_NR_ZONES	 4    /* of the most common configuration; more are left out */
#define LONG_LEAST	 (-(1L << 62))
#define MARGIN_PAGES	 1024
#define UNSEEN_PAGES	 1024 /* SK_MEMORY_PCPU_RESERVE of four CPUs, which each counts late */
#define PLENTY_PAGES	 8192 /* above the margin: more than two CPUs send unchecked in 4 ms */
#define UNLOOKED_BYTES	 4096 /* memory is checked for each larger message */
#define UNLOOKED_AT_ONCE 16   /* for each 16th smaller one, and the first of each clock tick */
#define SMALL_BYTES	 1024 /* for messages up to this */
#define SMALL_AT_ONCE	 64   /* each 64th */

/* How much is left before the kernel refuses. Ordered. */
enum memory {
	MEMORY_PLENTY = 0, /* more than all unchecked small messages could take */
	MEMORY_ENOUGH = 1,
	MEMORY_LOW = 2,	  /* use TCP when the reader has caught up */
	MEMORY_SHORT = 3, /* use TCP at once */
};

static __always_inline enum memory level_of(long left, long margin)
{
	if (left < margin >> 1)
		return MEMORY_SHORT;
	if (left < margin)
		return MEMORY_LOW;
	return left < margin + PLENTY_PAGES ? MEMORY_ENOUGH : MEMORY_PLENTY;
}

/* The margin below a limit: an eighth of a small limit, so that it can be used at all. */
static __always_inline long margin_of(long limit)
{
	return limit >> 3 < MARGIN_PAGES ? limit >> 3 : MARGIN_PAGES;
}

/*
 * tcp_mem. Above its second number the kernel may refuse, until usage falls below the first
 * (memory_pressure). Above the third it always refuses. One charge adds everything that its CPU has not
 * counted yet, and other CPUs may do the same between the look and the charge.
 */
static __always_inline enum memory node_memory(__u64 peer_sk, long pages)
{
	const struct sock *sk = NULL;
	const struct proto *none = NULL;
	__u64 prot = load_long(peer_sk + bpf_core_field_offset(sk->__sk_common.skc_prot));
	long pressure_at, allocated;

	if (load_long(load_long(prot + bpf_core_field_offset(none->memory_pressure))))
		return MEMORY_SHORT;
	pressure_at = load_long(load_long(prot + bpf_core_field_offset(none->sysctl_mem)) + sizeof(long));
	allocated = load_long(load_long(prot + bpf_core_field_offset(none->memory_allocated)));
	return level_of(pressure_at - allocated - pages, 2 * UNSEEN_PAGES);
}

/*
 * Page cache of this cgroup itself, which the kernel reclaims for a charge. An estimate from the first NUMA
 * node, of which half counts.
 */
static __always_inline long reclaimable(__u64 memcg)
{
	const struct mem_cgroup_per_node *none = NULL;
	const struct mem_cgroup *group = NULL;
	__u64 node, list;
	long pages = 0;

	if (!bpf_core_field_exists(none->lru_zone_size) || !bpf_core_field_exists(group->nodeinfo))
		return 0;
	node = load_long(memcg + bpf_core_field_offset(group->nodeinfo));
	list = node + bpf_core_field_offset(none->lru_zone_size);
	for (int zone = 0; zone < MAX_NR_ZONES; zone++) {
		if ((zone + 1) * NR_LRU_LISTS * sizeof(long) > bpf_core_field_size(none->lru_zone_size))
			break;
		pages += load_long(list + (zone * NR_LRU_LISTS + LRU_INACTIVE_FILE) * sizeof(long)) +
			 load_long(list + (zone * NR_LRU_LISTS + LRU_ACTIVE_FILE) * sizeof(long));
	}
	return pages >> 1;
}

/* cgroup v1 counts sockets separately from other memory, if memory.kmem.tcp.limit_in_bytes was set. */
static __always_inline bool counts_sockets_apart(__u64 memcg)
{
	const struct mem_cgroup *group = NULL;

	return bpf_core_field_exists(group->tcpmem_active) &&
	       (load_long(memcg + bpf_core_field_offset(group->tcpmem_active)) & 0xff);
}

/*
 * Did the kernel find it hard to reclaim memory of this cgroup (v2)? Then for a second it refuses charges
 * above a fair share.
 */
static __always_inline bool reclaim_is_hard(__u64 memcg)
{
	const struct mem_cgroup *group = NULL;
	long until;

	if (!bpf_core_field_exists(group->socket_pressure))
		return false;
	until = load_long(memcg + bpf_core_field_offset(group->socket_pressure));
	return until && until - (long)bpf_jiffies64() > 0;
}

/*
 * Of this cgroup and all above it. The worst distance to a margin is found without a branch for each result.
 */
static __always_inline enum memory cgroup_memory(__u64 peer_sk, long pages)
{
	const struct page_counter *at = NULL;
	const struct mem_cgroup *group = NULL;
	long low = LONG_LEAST, lowest = LONG_LEAST;
	const struct sock *sk = NULL;
	__u64 memcg, counter;
	bool apart;

	if (!bpf_core_field_exists(sk->sk_memcg))
		return MEMORY_PLENTY;
	memcg = load_long(peer_sk + bpf_core_field_offset(sk->sk_memcg)) & ~SK_MEMCG_FLAGS;
	if (!memcg)
		return MEMORY_PLENTY;
	apart = counts_sockets_apart(memcg);
	if (apart) {
		counter = memcg + bpf_core_field_offset(group->tcpmem);
	} else {
		if (reclaim_is_hard(memcg))
			return MEMORY_SHORT;
		counter = memcg + bpf_core_field_offset(group->memory);
	}
	for (int i = 0; i < MEMCG_LEVELS && counter; i++) {
		long limit = load_long(counter + bpf_core_field_offset(at->max));
		long left = limit - load_long(counter + bpf_core_field_offset(at->usage)) - pages;
		long margin = margin_of(limit);

		if (margin - left > low)
			low = margin - left;
		if ((margin >> 1) - left > lowest)
			lowest = (margin >> 1) - left;
		counter = load_long(counter + bpf_core_field_offset(at->parent));
	}
	if (low > 0 && !apart) {
		long cache = reclaimable(memcg);

		low -= cache;
		lowest -= cache;
	}
	if (lowest > 0)
		return MEMORY_SHORT;
	if (low > 0)
		return MEMORY_LOW;
	return low + PLENTY_PAGES > 0 ? MEMORY_ENOUGH : MEMORY_PLENTY;
}

/*
 * Reports enum memory. Not inlined, so that the verifier checks it once and not for each path that leads
 * here. peer_sk is a hint, see peer.h; all of TCP's sockets share the node's numbers.
 */
__attribute__((noinline)) int memory_left(__u64 peer_sk, long pages)
{
	enum memory node = node_memory(peer_sk, pages), group;

	if (node == MEMORY_SHORT)
		return node;
	group = cgroup_memory(peer_sk, pages);
	return group > node ? group : node;
}

/*
 * The check costs more than the rest of the verdict. So while there was plenty of memory at the last check,
 * it is left out for most small messages. The number of flows to one reader is not known, but all CPUs
 * together send less than the plenty within a clock tick.
 */
static __always_inline enum memory memory_for(struct sock_state *state, __u32 size, __u32 now)
{
	__u32 at_once = size <= SMALL_BYTES ? SMALL_AT_ONCE : UNLOOKED_AT_ONCE;
	enum memory worst;

	if (size <= UNLOOKED_BYTES && (state->ends & END_MEMORY_PLENTY) && now == state->redirected_at &&
	    state->redirected_messages & (at_once - 1))
		return MEMORY_PLENTY;
	worst = memory_left(state->peer_sk, size / PAGE_BYTES + 1);
	if (worst == MEMORY_PLENTY)
		state->ends |= END_MEMORY_PLENTY;
	else
		state->ends &= ~END_MEMORY_PLENTY;
	return worst;
}
