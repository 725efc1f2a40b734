/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* May these two ends be one flow? Decides by the policies of endpoints alone. */
#pragma once

#include <bpf/bpf_helpers.h>

#include "maps.h"

static __always_inline bool in_ranges(const struct port_range *ranges, __u8 used, __u16 port)
{
	for (int i = 0; i < MAX_PORT_RANGES; i++) {
		if (i >= used)
			return false;
		if (port >= ranges[i].first && port <= ranges[i].last)
			return true;
	}
	return false;
}

static __always_inline bool port_permitted(const struct endpoint *ep, __u16 port)
{
	if (ep->includes && !in_ranges(ep->include, ep->includes, port))
		return false;
	return !ep->excludes || !in_ranges(ep->exclude, ep->excludes, port);
}

/*
 * Does the policy of one end permit the other? An end that is not registered (attach --cgroup) has none: ep
 * is NULL.
 */
static __always_inline bool end_permits(const struct endpoint *ep, const struct endpoint *other,
					bool same_netns, __u16 port)
{
	if (!ep)
		return true;
	if (!ep->accelerate)
		return false;
	if (ep->peers == PEERS_POD && !same_netns)
		return false;
	if (ep->peers == PEERS_NAMESPACE && !same_netns && (!other || other->group != ep->group))
		return false;
	return port_permitted(ep, port);
}

/*
 * *ends says which of the two ends have ever been registered (END_OWN, END_PEER), and is updated. The policy
 * of an endpoint that was deleted is not known and may have forbidden this flow, so it permits nothing.
 */
static __always_inline bool flow_permitted(__u64 netns, __u64 peer_netns, __u16 port, __u8 *ends)
{
	const struct endpoint *ep = bpf_map_lookup_elem(&endpoints, &netns);
	const struct endpoint *other = bpf_map_lookup_elem(&endpoints, &peer_netns);
	bool same = netns == peer_netns;

	if (ep)
		*ends |= END_OWN;
	if (other)
		*ends |= END_PEER;
	if ((!ep && (*ends & END_OWN)) || (!other && (*ends & END_PEER)))
		return false;
	return end_permits(ep, other, same, port) && end_permits(other, ep, same, port);
}

/* The same as the other end sees it. */
static __always_inline __u8 mirrored_ends(__u8 ends)
{
	return (ends & END_OWN ? END_PEER : 0) | (ends & END_PEER ? END_OWN : 0);
}

static __always_inline __u32 epoch_of(const struct config *cfg)
{
	return *(const volatile __u32 *)&cfg->epoch;
}

/*
 * A barrier between reading the epoch and reading the policies. User space writes a policy before it raises
 * the epoch, so a policy that was read too early is asked again. An atomic that fetches is a full barrier on
 * every architecture.
 */
static __always_inline void epoch_before_policies(void)
{
	__u32 word = 0;
	__u32 before = __sync_fetch_and_or(&word, 0);

	barrier_var(before); /* the result must be used, or the compiler picks an instruction that is no
				barrier */
}

/* For a flow whose policies are read next. */
static __always_inline __u32 epoch_now(void)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);
	__u32 epoch = cfg ? epoch_of(cfg) : 0;

	epoch_before_policies();
	return epoch;
}
