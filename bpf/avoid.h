/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps later connections on TCP for AVOID_NS or longer after a guard has seen a program use something that
 * only TCP supports. Servers are noted by listening port, in the map avoid; clients by destination, in
 * history.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "maps.h"

#define FRUITLESS_MAX 256 /* connections in a row that gained nothing: see struct history */

static __always_inline struct destination destination_of(struct tcp_sock *tp, __u64 netns)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct destination to = { .netns = netns,
				  .port = sk->__sk_common.skc_dport,
				  .family = sk->__sk_common.skc_family };

	if (to.family == AF_INET6)
		BPF_CORE_READ_INTO(&to.addr, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
	else
		*(__u32 *)to.addr = sk->__sk_common.skc_daddr;
	return to;
}

/* Does this destination stay on TCP because of what programs of this namespace sent there? */
static __always_inline bool avoided_for_now(const struct history *known)
{
	return known->avoided && known->rested_ns > bpf_ktime_get_coarse_ns();
}

/* The observers are tracing programs, which may not call bpf_ktime_get_coarse_ns. */
static __always_inline __u64 observed_at(void)
{
	return bpf_ktime_get_ns();
}

/*
 * A client's program sent something that only TCP supports. Later connections from its network namespace to
 * the same destination stay on TCP for AVOID_NS. Those of other namespaces do not: one client says nothing
 * about others.
 */
static __always_inline void avoid_destination(struct tcp_sock *tp, __u64 netns)
{
	struct destination to = destination_of(tp, netns);
	struct history avoided = { .fruitless = FRUITLESS_MAX,
				   .why = RESULT_AVOIDED,
				   .avoided = 1,
				   .rested_ns = observed_at() + AVOID_NS };

	bpf_map_update_elem(&history, &to, &avoided, BPF_ANY);
}

/* When connections to a listening port are accelerated again. */
static __always_inline __u64 avoided_until(const struct avoided *noted)
{
	return noted->noted_ns + (AVOID_NS << (noted->again & 7));
}

/* Accepted sockets inherit the options of their listener. */
static __always_inline bool avoided(__u64 netns, __u16 port)
{
	struct listening_port key = { .netns = netns, .port = port };
	const struct avoided *noted = bpf_map_lookup_elem(&avoid, &key);

	return noted && bpf_ktime_get_coarse_ns() < avoided_until(noted);
}

/*
 * A server that did this will do it again, and each retry costs one connection a change to TCP. So retries
 * come at growing intervals. Connections that were alive when the first was noted are noted, too, and count
 * once.
 */
static __always_inline void avoid_port(__u64 netns, __u16 port, __u32 habits)
{
	struct listening_port key = { .netns = netns, .port = port };
	struct avoided noted = { .noted_ns = observed_at(), .habits = habits };
	const struct avoided *before = bpf_map_lookup_elem(&avoid, &key);

	if (before) {
		noted.again = before->again;
		if (noted.noted_ns >= avoided_until(before) && noted.again < AVOID_AGAIN_MAX)
			noted.again++;
	}
	bpf_map_update_elem(&avoid, &key, &noted, BPF_ANY);
}

/*
 * Keeps later connections on TCP from the start. For a client only MSG_OOB and splice(2) are noted, and for
 * its own namespace only. The server's port must not be noted then, or one client could take acceleration
 * from all others. tp: the client's socket, or NULL.
 */
static __always_inline void avoid_later_connections(struct tcp_sock *tp, const struct sock_state *state,
						    __u32 habits)
{
	if (state->role == ROLE_PASSIVE) {
		if (state->port)
			avoid_port(state->netns, state->port, habits);
		return;
	}
	if (tp && (habits & (HABIT_OOB | HABIT_SPLICE)))
		avoid_destination(tp, state->netns);
}
