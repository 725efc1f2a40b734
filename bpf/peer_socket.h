/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The socket of the other end, and the messages that wait for its program. Its address is a hint: see peer.h.
 * memory.h reads the reader's memory limits in the same way.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "probe.h"

#define COUNTED_MESSAGES 64 /* messages_waiting counts no further */

/* What the verdict reads of the other end's socket. */
struct peer_view {
	__u32 backlog_bytes; /* charged to its receive memory and not yet read */
	__u32 copied_seq;    /* up to where its program has read the TCP stream */
	int owned;	     /* a call of its program holds its lock */
	int rcvlowat;
	int rcvbuf;
	int peek_off;	     /* SO_PEEK_OFF, -1 if it is not used */
	unsigned long flags; /* SOCK_* bits */
	__u8 shutdown;	     /* sk_shutdown */
	bool filter;
	bool ulp;
	bool inq; /* its program wants TCP_INQ control messages */
};

/*
 * bpf_rdonly_cast (6.2) turns each read into one instruction that survives any address. Without it each read
 * is a helper call.
 */
static __always_inline struct peer_view look_at_peer(__u64 peer_sk)
{
	struct peer_view view = {};
	struct tcp_sock *tp;

	if (bpf_rdonly_cast) {
		tp = bpf_rdonly_cast((void *)peer_sk, bpf_core_type_id_kernel(struct tcp_sock));
		view.backlog_bytes = tp->inet_conn.icsk_inet.sk.sk_backlog.rmem_alloc.counter;
		view.copied_seq = tp->copied_seq;
		view.owned = tp->inet_conn.icsk_inet.sk.sk_lock.owned;
		view.rcvlowat = tp->inet_conn.icsk_inet.sk.sk_rcvlowat;
		view.ulp = tp->inet_conn.icsk_ulp_ops;
		view.inq = BPF_CORE_READ_BITFIELD(tp, recvmsg_inq);
		view.rcvbuf = tp->inet_conn.icsk_inet.sk.sk_rcvbuf;
		view.peek_off = tp->inet_conn.icsk_inet.sk.sk_peek_off;
		view.flags = tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags;
		view.filter = tp->inet_conn.icsk_inet.sk.sk_filter;
		view.shutdown = tp->inet_conn.icsk_inet.sk.sk_shutdown;
		return view;
	}
	tp = (struct tcp_sock *)peer_sk;
	view.backlog_bytes = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_backlog.rmem_alloc.counter);
	view.copied_seq = BPF_CORE_READ(tp, copied_seq);
	view.owned = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_lock.owned);
	view.rcvlowat = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_rcvlowat);
	view.ulp = BPF_CORE_READ(tp, inet_conn.icsk_ulp_ops);
	view.inq = BPF_CORE_READ_BITFIELD_PROBED(tp, recvmsg_inq);
	view.rcvbuf = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_rcvbuf);
	view.peek_off = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_peek_off);
	view.flags = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.__sk_common.skc_flags);
	view.filter = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_filter);
	view.shutdown = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_shutdown);
	return view;
}

/*
 * Is the peer's program an event loop, whose receive calls never wait? Then its descriptor has O_NONBLOCK and
 * is in an epoll set. O_NONBLOCK alone proves less: programs connect with it, for a timeout, and clear it
 * afterwards. A socket that nobody has accepted has no file.
 */
static __always_inline bool peer_awaits_events(__u64 peer_sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)peer_sk;
	struct file *file = NULL;

	if (!bpf_core_field_exists(file->f_ep))
		return false;
	if (bpf_rdonly_cast) {
		tp = bpf_rdonly_cast((void *)peer_sk, bpf_core_type_id_kernel(struct tcp_sock));
		file = tp->inet_conn.icsk_inet.sk.sk_socket->file;
		return (file->f_flags & O_NONBLOCK) && file->f_ep;
	}
	file = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_socket, file);
	return (BPF_CORE_READ(file, f_flags) & O_NONBLOCK) && BPF_CORE_READ(file, f_ep);
}

/* Do redirected bytes wait at the other end? Not inlined, so that the verifier checks it once. */
__attribute__((noinline)) int peer_has_unread(__u64 peer_sk)
{
	const struct sk_psock *psock = NULL;
	const struct sock *sk = NULL;
	__u64 data, queue;

	data = load_long(peer_sk + bpf_core_field_offset(sk->sk_user_data));
	if (!(data & SK_USER_DATA_PSOCK))
		return false;
	queue = (data & SK_USER_DATA_PTRMASK) + bpf_core_field_offset(psock->ingress_msg);
	return (__u64)load_long(queue) != queue;
}

/*
 * How many redirected messages wait at the other end, counted up to `most`. The kernel may change the list
 * meanwhile, so each step may read anything. Not inlined, so that the verifier checks it once.
 */
__attribute__((noinline)) int messages_waiting(__u64 peer_sk, __u32 most)
{
	const struct sk_psock *psock = NULL;
	const struct sock *sk = NULL;
	__u64 data = load_long(peer_sk + bpf_core_field_offset(sk->sk_user_data));
	__u64 queue = (data & SK_USER_DATA_PTRMASK) + bpf_core_field_offset(psock->ingress_msg);
	__u64 at = queue;
	__u32 count;

	if (!(data & SK_USER_DATA_PSOCK))
		return 0;
	for (count = 0; count < COUNTED_MESSAGES && count < most; count++) {
		at = load_long(at);
		if (at == queue)
			break;
	}
	return count;
}

/* Up to where the other end's program has read the TCP stream. */
static __always_inline __u32 peer_copied_seq(__u64 peer_sk)
{
	const struct tcp_sock *tp = NULL;

	return load_long(peer_sk + bpf_core_field_offset(tp->copied_seq));
}
