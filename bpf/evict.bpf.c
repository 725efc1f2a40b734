// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Makes the sockets of a network namespace leave the sockhash: for `disable`, `unload` and `uninstall`, which
 * load it for one run and never pin it. The iterator holds each socket's lock. It takes two passes, because
 * each end leaves only when the other has committed to TCP.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "maps.h"
#include "wake.h"

static __always_inline enum stays evict(struct tcp_sock *tp, struct sock_state *state)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	__u32 one_byte = 1;

	if (!psock_of(sk))
		return STAYS_NOT;
	if (!know_peer(state))
		return STAYS_NO_PEER;
	if (!commit_for_others(state, tp, REASON_DISABLED))
		return state->habits & HABIT_CAN_COMMIT ? STAYS_CALL : STAYS_OLD;
	if (redirected_bytes_wait(sk))
		return STAYS_UNREAD;
	if (state->ends & END_PROBED)
		return STAYS_PROBED;
	if (!peer_has_committed(state))
		return STAYS_PEER;
	/* No callback of ours will wake the reader any more. */
	if (may_miss_an_edge(state, tp) && sk->sk_rcvlowat <= 1)
		bpf_setsockopt(tp, SOL_SOCKET, SO_RCVLOWAT, &one_byte, sizeof(one_byte));
	leave_alive(tp, state, tp);
	return STAYS_NOT;
}

SEC("iter/tcp")
int evict_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_state *state;
	struct tcp_sock *tp;
	__u32 stays;

	if (!ctx->sk_common)
		return 0;
	tp = bpf_skc_to_tcp_sock(ctx->sk_common);
	if (!tp)
		return 0;
	state = bpf_sk_storage_get(&states, tp, NULL, 0);
	if (!state || state->left)
		return 0;
	stays = evict(tp, state);
	bpf_seq_write(ctx->meta->seq, &stays, sizeof(stays));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
