/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Properties of a socket that have no field in the BPF contexts. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_core_read.h>

/* Did the program ask for zero-copy sends (SO_ZEROCOPY)? Redirected bytes never complete. */
static __always_inline bool zerocopy(struct tcp_sock *tp)
{
	unsigned long flags = tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags;

	return flags & (1UL << bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY));
}
