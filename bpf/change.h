/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* When a flow that is redirected may change to TCP. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "peer_socket.h"

/*
 * A change to TCP waits, if it can, until the reader has taken all redirected bytes: bytes that wait in both
 * queues confuse some readers, see wake.h. since_ns: when the change was first wanted; it happens after
 * PATIENCE_NS at the latest. 0: it waits without end.
 */
#define PATIENCE_NS (1000ULL * 1000 * 1000)

static __always_inline bool may_change(const struct sock_state *state, __u64 since_ns)
{
	if (state->mode != MODE_REDIRECT || !state->peer_sk)
		return true;
	if (since_ns && bpf_ktime_get_ns() - since_ns > PATIENCE_NS)
		return true;
	return !peer_has_unread(state->peer_sk);
}
