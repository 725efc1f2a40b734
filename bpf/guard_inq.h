/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * FIONREAD: how many bytes a program can receive. Kernels count either what came over TCP (before 6.12.75 and
 * 6.18.14) or what was redirected (from then on, up to 6.12.113), not both.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "socket.h"

/* The largest value of maxBacklogMessages. */
#define MESSAGES_COUNTED (1 << 20)

/*
 * A walk over the waiting messages. Another thread may remove them, so their addresses are read fault-safely.
 */
struct walk {
	struct list_head *head;
	struct list_head *at;
	__u32 bytes;
};

static long add_message(__u32 nr __attribute__((unused)), struct walk *walk)
{
	struct list_head *at = walk->at;
	struct sk_msg *msg;

	if (!at || at == walk->head)
		return 1;
	msg = (void *)at - bpf_core_field_offset(struct sk_msg, list);
	walk->bytes += BPF_CORE_READ(msg, sg.size);
	walk->at = BPF_CORE_READ(at, next);
	return 0;
}

/* Bytes that were redirected to this socket and not yet received. */
static __always_inline __u32 redirected_waiting(struct sock *sk)
{
	struct sk_psock *psock = psock_of(sk);
	struct walk walk = {};

	if (!psock)
		return 0;
	walk.head = &psock->ingress_msg;
	walk.at = BPF_CORE_READ(psock, ingress_msg.next);
	bpf_loop(MESSAGES_COUNTED, add_message, &walk, 0);
	return walk.bytes;
}

/* Sequence numbers wrap. */
static __always_inline bool before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

/* Is there urgent data out of line? A receive call ends before it. */
static __always_inline bool ends_at_urgent(const struct tcp_sock *tp)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	return tp->urg_data &&
	       !has_flag(sk->__sk_common.skc_flags, bpf_core_enum_value(enum sock_flags, SOCK_URGINLINE)) &&
	       !before(tp->urg_seq, tp->copied_seq) && before(tp->urg_seq, tp->rcv_nxt);
}

/* Bytes that came over TCP and were not received, counted as the kernel does for a socket in no sockmap. */
static __always_inline __u32 tcp_waiting(const struct tcp_sock *tp)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	__u32 bytes;

	if (ends_at_urgent(tp))
		return tp->urg_seq - tp->copied_seq;
	bytes = tp->rcv_nxt - tp->copied_seq;
	/* The FIN has a sequence number, too. */
	if (bytes && has_flag(sk->__sk_common.skc_flags, bpf_core_enum_value(enum sock_flags, SOCK_DONE)))
		bytes--;
	return bytes;
}
