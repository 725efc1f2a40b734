/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* May these two ends be one flow? Pure decisions on endpoints' policies. */
#pragma once

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

/* What one end thinks of the other. An end that nobody registered (attach --cgroup) has no policy: NULL. */
static __always_inline bool end_permits(const struct endpoint *ep, const struct endpoint *other, bool same_netns,
					__u16 port)
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

static __always_inline bool flow_permitted(__u64 netns, __u64 peer_netns, __u16 port)
{
	const struct endpoint *ep = bpf_map_lookup_elem(&endpoints, &netns);
	const struct endpoint *other = bpf_map_lookup_elem(&endpoints, &peer_netns);
	bool same = netns == peer_netns;

	return end_permits(ep, other, same, port) && end_permits(other, ep, same, port);
}
