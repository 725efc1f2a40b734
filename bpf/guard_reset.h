/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A program closes a socket with bytes unread: TCP resets the connection, but where the bytes were redirected it ends in order.
 * The closing end writes that down (leaving.h), and the other end's calls are answered as after a reset: the observer of a call finds
 * out and leaves word, because only it may look up socket storage, and the guard of the same call takes the word as its answer.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "socket.h"

/* 0: nothing is to be answered. */
static __always_inline void leave_call_error(struct sock *sk, __u32 error)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct call_error answer = { .sk = (__u64)sk, .error = error };

	if (error)
		bpf_map_update_elem(&answers, &task, &answer, BPF_ANY);
}

/* Two loads: only a socket whose peer has sent its FIN can have been closed so. */
static __always_inline bool peer_has_finished(struct sock *sk)
{
	return sk->__sk_common.skc_state == BPF_TCP_CLOSE_WAIT;
}

/* What an observer has said of this very call: an error, negative, or 0 for nothing. */
static __always_inline long take_call_error(struct sock *sk)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct call_error *answer;
	long error;

	if (!peer_has_finished(sk))
		return 0;
	answer = bpf_map_lookup_elem(&answers, &task);
	if (!answer)
		return 0;
	error = answer->sk == (__u64)sk ? -(long)answer->error : 0;
	bpf_map_delete_elem(&answers, &task);
	return error;
}

/* NULL: the peer was not closed with redirected bytes unread. Else enum reset. */
static __always_inline __u32 *reset_of(struct sock *sk, struct sock_state *state)
{
	return peer_has_finished(sk) ? bpf_map_lookup_elem(&resets, &state->self) : NULL;
}

/* A reset is told once, by whatever call comes first. True: this is the one. */
static __always_inline bool report_reset(__u32 *told)
{
	return __sync_val_compare_and_swap(told, RESET_PENDING, RESET_REPORTED) == RESET_PENDING;
}

/* Of what came by TCP: only the FIN, which has a number, too, may not have been taken. */
static __always_inline bool has_read_all(struct tcp_sock *tp)
{
	return tp && tp->rcv_nxt - tp->copied_seq <= 1;
}

/* The error that a receive is to return, 0: none. What arrived before a reset can still be received. */
static __always_inline __u32 receive_after_reset(struct sock *sk, struct sock_state *state)
{
	__u32 *told = reset_of(sk, state);

	if (told && has_read_all(bpf_skc_to_tcp_sock(sk)) && !redirected_bytes_wait(sk) && report_reset(told))
		return ECONNRESET;
	return 0;
}

/* The same of a send. */
static __always_inline __u32 send_after_reset(struct sock *sk, struct sock_state *state, unsigned int flags)
{
	__u32 *told = reset_of(sk, state);

	if (!told)
		return 0;
	if (report_reset(told))
		return ECONNRESET;
	if (!(flags & MSG_NOSIGNAL))
		bpf_send_signal(SIGPIPE);
	return EPIPE;
}
