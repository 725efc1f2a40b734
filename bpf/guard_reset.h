/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A program closes a socket with unread bytes. TCP resets the connection, but if the bytes were redirected it
 * closes it in order. The closing end notes that in resets (closing.h), and the other end's calls then fail
 * as after a reset. Only the observer of a call may look up socket storage, so it finds out and leaves the
 * error in answers; the guard of the same call returns it.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "socket.h"

/* error: errno, positive; 0: the call does not fail. */
static __always_inline void leave_call_error(struct sock *sk, __u32 error)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct call_error answer = { .sk = (__u64)sk, .error = error };

	if (error)
		bpf_map_update_elem(&answers, &task, &answer, BPF_ANY);
}

/* Only a socket whose peer has sent its FIN can have been closed so. Costs two loads. */
static __always_inline bool peer_has_finished(struct sock *sk)
{
	return sk->__sk_common.skc_state == BPF_TCP_CLOSE_WAIT;
}

/* The error that an observer has left for this call, negative; 0: none. */
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

/* Points to enum reset; NULL: the peer was not closed with unread redirected bytes. */
static __always_inline __u32 *reset_of(struct sock *sk, struct sock_state *state)
{
	return peer_has_finished(sk) ? bpf_map_lookup_elem(&resets, &state->self) : NULL;
}

/* A reset is reported once, by the call that comes first. True: this is the one. */
static __always_inline bool report_reset(__u32 *report)
{
	return __sync_val_compare_and_swap(report, RESET_PENDING, RESET_REPORTED) == RESET_PENDING;
}

/* Has the program read all that came over TCP? Only the FIN may be left, which has a sequence number, too. */
static __always_inline bool has_read_all(struct tcp_sock *tp)
{
	return tp && tp->rcv_nxt - tp->copied_seq <= 1;
}

/* The errno with which a receive call fails; 0: none. What arrived before the reset can still be received. */
static __always_inline __u32 receive_after_reset(struct sock *sk, struct sock_state *state)
{
	__u32 *report = reset_of(sk, state);

	if (report && has_read_all(bpf_skc_to_tcp_sock(sk)) && !redirected_bytes_wait(sk) &&
	    report_reset(report))
		return ECONNRESET;
	return 0;
}

/* The same for a send. */
static __always_inline __u32 send_after_reset(struct sock *sk, struct sock_state *state, unsigned int flags)
{
	__u32 *report = reset_of(sk, state);

	if (!report)
		return 0;
	if (report_reset(report))
		return ECONNRESET;
	if (!(flags & MSG_NOSIGNAL))
		bpf_send_signal(SIGPIPE);
	return EPIPE;
}
