/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Would the kernel take these bytes for the reader? A redirect charges them to the reader's socket, and where
 * the charge fails send(2) answers ENOMEM, which TCP never does. So the verdict looks first at what the
 * kernel will ask: tcp_mem of the node, and the limits of the reader's memory cgroup and of all above it.
 * Both looks leave a margin, because between the look and the charge others charge, too.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "probe.h"

#define PAGE_BYTES	 4096 /* the kernel's page may be larger: then the margins are */
#define MEMCG_LEVELS	 8    /* of the hierarchy that are looked at: Kubernetes makes five */
#define MEMCG_ZONES	 4
#define LRU_LISTS	 5 /* enum lru_list: anonymous, file (inactive, active), unevictable */
#define LONG_LEAST	 (-(1L << 62))
#define MARGIN_PAGES	 1024
#define UNSEEN_PAGES	 1024 /* four CPUs' SK_MEMORY_PCPU_RESERVE, which each allocates before it says so */
#define PLENTY_PAGES	 8192 /* above the margin: more than two CPUs send, unlooked, in a tick of 4 ms */
#define UNLOOKED_BYTES	 4096 /* a larger message is looked at each time */
#define UNLOOKED_AT_ONCE 16   /* smaller ones: each 16th, and the first of each tick of the coarse clock */
#define SMALL_BYTES	 1024 /* and of those that are this small */
#define SMALL_AT_ONCE	 64   /* each 64th */

/* How much is left before the kernel says no. Ordered. */
enum memory {
	MEMORY_PLENTY = 0,  /* more than all small messages could take that are not looked at */
	MEMORY_ENOUGH = 1,
	MEMORY_LOW = 2,	  /* go over to TCP when the reader has caught up */
	MEMORY_SHORT = 3, /* go over to TCP at once */
};

static __always_inline enum memory level_of(long left, long margin)
{
	if (left < margin >> 1)
		return MEMORY_SHORT;
	if (left < margin)
		return MEMORY_LOW;
	return left < margin + PLENTY_PAGES ? MEMORY_ENOUGH : MEMORY_PLENTY;
}

/* The margin below a limit: a part of it where it is small, so that a small limit is of use at all. */
static __always_inline long margin_of(long limit)
{
	return limit >> 3 < MARGIN_PAGES ? limit >> 3 : MARGIN_PAGES;
}

/*
 * tcp_mem. Above its second number, and from then on until below its first (memory_pressure), the kernel may
 * refuse; above the third it always does. One charge adds all that its CPU has not counted yet, and other CPUs
 * may do the same between the look and the charge.
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
 * Page cache of this cgroup itself, which the kernel gives up for a charge. Only of the first node: an
 * estimate, of which half counts.
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
	for (int zone = 0; zone < MEMCG_ZONES; zone++) {
		if ((zone + 1) * LRU_LISTS * sizeof(long) > bpf_core_field_size(none->lru_zone_size))
			break;
		pages += load_long(list + (zone * LRU_LISTS + 2) * sizeof(long)) +
			 load_long(list + (zone * LRU_LISTS + 3) * sizeof(long));
	}
	return pages >> 1;
}

/*
 * cgroup v1 counts sockets apart from all other memory, where somebody has set
 * memory.kmem.tcp.limit_in_bytes.
 */
static __always_inline bool counts_sockets_apart(__u64 memcg)
{
	const struct mem_cgroup *group = NULL;

	return bpf_core_field_exists(group->tcpmem_active) &&
	       (load_long(memcg + bpf_core_field_offset(group->tcpmem_active)) & 0xff);
}

/*
 * Has the kernel found it hard to reclaim memory of this cgroup (v2)? For a second it then refuses what is
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

/* Of this cgroup and all above it. How far each is below its margins is added up without a branch for each. */
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
	memcg = load_long(peer_sk + bpf_core_field_offset(sk->sk_memcg)) & ~3UL; /* newer kernels keep flags there */
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
 * Reports enum memory. Not inlined, so that the verifier looks at it once and not for each way that leads
 * here. The other end's socket is a hint; all of TCP's sockets share the node's numbers.
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
 * The look costs more than the rest of the questions together, so small messages are not looked at each time:
 * only where memory was ample. How many flows send so to one reader is not known, but all of them together
 * send less than that within a tick.
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
