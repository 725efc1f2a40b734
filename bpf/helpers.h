/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ports whose payload the node reads or rewrites. A conntrack helper (FTP, SIP, IRC, ...) sees packets only,
 * and redirected bytes are in none. User space finds the helpers (pkg/conntrack) and writes their ports into
 * config.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "policy.h"

static __always_inline bool helper_reads(const struct config *cfg, __u16 port)
{
	return cfg->helpers_mode == HELPERS_AVOID && in_ranges(cfg->helper_ports, cfg->helper_ranges, port);
}

/* At the handshake, port in host byte order. */
static __always_inline bool helper_reads_port(__u16 port)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	return cfg && helper_reads(cfg, port);
}

/*
 * The port that the active end has connected to, before NAT: conntrack looks at that one. active_sk may be a
 * hint, see peer.h.
 */
static __always_inline __u16 connected_port(__u64 active_sk)
{
	struct sock *sk = (struct sock *)active_sk;

	return bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

/* For a live flow whose policy is asked again. tp: of this end. */
static __always_inline bool helper_reads_flow(struct tcp_sock *tp, const struct sock_state *state,
					      const struct config *cfg)
{
	__u64 active_sk = state->role == ROLE_ACTIVE ? (__u64)tp : state->peer_sk;

	return helper_reads(cfg, state->port) || (active_sk && helper_reads(cfg, connected_port(active_sk)));
}
