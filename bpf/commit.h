/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Leaving the sockhash for good, while the connection goes on. A socket that leaves gets TCP's own calls back,
 * and bytes that are redirected to it afterwards would be lost. So each end first swears: it never redirects
 * again, and none of its redirects is on its way. An end that has sworn leaves as soon as the other has sworn,
 * too, and has left it nothing to read. docs/adr/0018.
 *
 * The kernel itself proves that no redirect is on its way: a send holds its own socket's psock from before its
 * verdict until its bytes are queued.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "peer.h"
#include "socket.h"
#include "state.h"

#define REASON_BIT(name) (1ULL << REASON_##name)

/* Of a flow that has left: later connections to the same destination would lose, too. */
#define REASONS_TO_REMEMBER (REASON_BIT(UNREAD) | REASON_BIT(BACKLOG_BYTES) | REASON_BIT(BACKLOG_MESSAGES) | \
			     REASON_BIT(CONTENDED) | REASON_BIT(CORKED) | REASON_BIT(PAGES) | REASON_BIT(SMALL))

/* Programs that do these go on doing them, and whoever turns the kill switch wants TCP. */
#define REASONS_THAT_LAST (REASON_BIT(DISABLED) | REASON_BIT(BLOCKING) | REASON_BIT(WAITALL) | \
			   REASON_BIT(DISCARD) | REASON_BIT(OOB) | REASON_BIT(SPLICE))

/* What a program has set on its socket, and may take back. */
#define REASONS_OF_OPTIONS (REASON_BIT(INQ) | REASON_BIT(ZEROCOPY) | REASON_BIT(OPTION) | REASON_BIT(RCVLOWAT))

/* What is over soon, or of sockets that cannot leave. */
#define REASONS_THAT_PASS (REASON_BIT(NO_PEER) | REASON_BIT(STATE) | REASON_BIT(ULP) | REASON_BIT(PEER_LEFT) | \
			   REASON_BIT(LEARNING) | REASON_BIT(REFRESH) | REASON_BIT(MEMORY) | \
			   REASON_BIT(SHUTDOWN) | REASON_BIT(EARLY))

static __always_inline bool is_one(enum reason reason, __u64 reasons)
{
	return (1ULL << (reason & 63)) & reasons;
}

static __always_inline bool has_committed(const struct sock_state *state)
{
	return state->habits & HABIT_COMMITTED;
}

/* How many calls are inside the redirecting part of the kernel, with this socket as sender or reader. */
static __always_inline int calls_inside_count(struct sock *sk)
{
	struct sk_psock *psock = psock_of(sk);

	return psock ? BPF_CORE_READ(psock, refcnt.refs.counter) - 1 : 0;
}

/*
 * The caller holds the socket's lock, so whoever begins to send now sees the oath. ours: calls inside that are
 * known not to redirect: 1 for the send whose verdict this is. A socket whose verdict may be of a version
 * that knows no oaths never swears. Reports whether it has sworn.
 */
static __always_inline bool commit(struct sock_state *state, struct tcp_sock *tp, int ours)
{
	__u32 before;

	if (has_committed(state))
		return true;
	if (!(state->habits & HABIT_CAN_COMMIT) || calls_inside_count(&tp->inet_conn.icsk_inet.sk) > ours)
		return false;
	before = __sync_fetch_and_or(&state->habits, HABIT_COMMITTED);
	barrier_var(before); /* else the compiler takes an instruction that is no barrier */
	return true;
}

/*
 * In its verdict, whose send is a call of its own. Where the kernel asks again for the rest of a message, because
 * there was no memory for all of it, it redirects the rest as it did the first part, whatever the verdict says.
 */
static __always_inline bool commit_in_verdict(struct sk_msg_md *msg, struct sock_state *state,
					     struct tcp_sock *tp)
{
	return has_committed(state) || (!BPF_CORE_READ((struct sk_msg *)msg, sk_redir) && commit(state, tp, 1));
}
