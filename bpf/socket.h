/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Properties of a socket that BPF contexts have no field for. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"

/* Values of TCP_NOTSENT_LOWAT (mark.h), in bytes. Odd, to distinguish them from values that programs set. */
#define NOTSENT_MARK	   4095
#define NOTSENT_MARK_FRESH 524287 /* before it is known that the peer reads */

static __always_inline bool is_our_mark(__u32 mark)
{
	return mark == NOTSENT_MARK || mark == NOTSENT_MARK_FRESH;
}

/*
 * The time in the unit of struct sock_state. Coarse: it only reads what the kernel's timer tick has written.
 */
static __always_inline __u32 now_ticks(void)
{
	return bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
}

/* The same for guards: tracing programs and programs for socket options may not read the coarse clock. */
static __always_inline __u32 precise_ticks(void)
{
	return bpf_ktime_get_ns() >> TICK_SHIFT;
}

static __always_inline bool has_flag(unsigned long flags, unsigned int bit)
{
	return flags & (1UL << bit);
}

/* Did the program set SO_ZEROCOPY? Redirected bytes never complete. */
static __always_inline bool zerocopy(struct tcp_sock *tp)
{
	return has_flag(tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags,
			bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY));
}

/* Does the program want transmit time stamps (SO_TIMESTAMPING)? Redirected bytes are in no segment. */
static __always_inline bool stamps_sends(struct tcp_sock *tp)
{
	return BPF_CORE_READ_BITFIELD(tp, inet_conn.icsk_inet.sk.sk_tsflags);
}

/* Does the program want receive time stamps: SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING? */
static __always_inline bool stamps_receives(unsigned long flags)
{
	return has_flag(flags, bpf_core_enum_value(enum sock_flags, SOCK_RCVTSTAMP)) ||
	       has_flag(flags, bpf_core_enum_value(enum sock_flags, SOCK_TIMESTAMPING_RX_SOFTWARE));
}

/* Is O_NONBLOCK clear? A socket that nobody has accepted has no descriptor and counts as blocking. */
static __always_inline bool blocking(struct tcp_sock *tp)
{
	return !(tp->inet_conn.icsk_inet.sk.sk_socket->file->f_flags & O_NONBLOCK);
}

/* NULL: the socket is in no sockmap. sk may be a hint, see peer.h. */
static __always_inline struct sk_psock *psock_of(struct sock *sk)
{
	unsigned long data = (unsigned long)BPF_CORE_READ(sk, sk_user_data);

	return data & SK_USER_DATA_PSOCK ? (struct sk_psock *)(data & SK_USER_DATA_PTRMASK) : NULL;
}

/*
 * Do redirected bytes wait for the program? After close(2) nobody can read them and the socket has no psock.
 */
static __always_inline bool redirected_bytes_wait(struct sock *sk)
{
	struct sk_psock *psock = psock_of(sk);

	return psock && BPF_CORE_READ(psock, ingress_msg.next) != &psock->ingress_msg;
}

/*
 * Is a call inside the kernel's redirecting code? A send of this socket is, from before its verdict until its
 * bytes are queued; also a receive of it, and a send to it that has found it. sk may be a hint.
 */
static __always_inline bool calls_inside(struct sock *sk)
{
	struct sk_psock *psock = psock_of(sk);

	return psock && BPF_CORE_READ(psock, refcnt.refs.counter) > 1;
}
