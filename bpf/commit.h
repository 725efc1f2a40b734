/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How an end commits to TCP, so that both ends can leave the sockhash while the connection goes on. A socket
 * that leaves gets TCP's own calls back; bytes redirected to it afterwards would be lost. So each end first
 * commits to TCP: it never redirects again, and none of its redirects is on its way. An end leaves when both
 * have committed and nothing that was redirected to it is unread. See docs/adr/0018.
 *
 * The kernel itself proves that no redirect is on its way: a send holds its own socket's psock from before
 * its verdict until its bytes are queued.
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

/* A flow that has left for one of these: later connections to the same destination would lose, too. */
#define REASONS_TO_REMEMBER                                                              \
	(REASON_BIT(UNREAD) | REASON_BIT(BACKLOG_BYTES) | REASON_BIT(BACKLOG_MESSAGES) | \
	 REASON_BIT(CONTENDED) | REASON_BIT(CORKED) | REASON_BIT(PAGES) | REASON_BIT(SMALL))

/* Programs that cause these go on causing them, and who turns the kill switch wants TCP. */
#define REASONS_THAT_LAST                                                                          \
	(REASON_BIT(DISABLED) | REASON_BIT(BLOCKING) | REASON_BIT(WAITALL) | REASON_BIT(DISCARD) | \
	 REASON_BIT(OOB) | REASON_BIT(SPLICE))

/* Options that a program has set on its socket and may clear again. */
#define REASONS_OF_OPTIONS \
	(REASON_BIT(INQ) | REASON_BIT(ZEROCOPY) | REASON_BIT(OPTION) | REASON_BIT(RCVLOWAT))

/* Reasons that are over soon, or that concern sockets which cannot leave. */
#define REASONS_THAT_PASS                                                                         \
	(REASON_BIT(NO_PEER) | REASON_BIT(STATE) | REASON_BIT(ULP) | REASON_BIT(PEER_LEFT) |      \
	 REASON_BIT(LEARNING) | REASON_BIT(REFRESH) | REASON_BIT(MEMORY) | REASON_BIT(SHUTDOWN) | \
	 REASON_BIT(EARLY))

static __always_inline bool is_one(enum reason reason, __u64 reasons)
{
	return (1ULL << (reason & 63)) & reasons;
}

static __always_inline bool has_committed(const struct sock_state *state)
{
	return state->habits & HABIT_COMMITTED;
}

/* How many calls are inside the kernel's redirecting code, with this socket as sender or reader. */
static __always_inline int calls_inside_count(struct sock *sk)
{
	struct sk_psock *psock = psock_of(sk);

	return psock ? BPF_CORE_READ(psock, refcnt.refs.counter) - 1 : 0;
}

/*
 * The caller holds the socket's lock, so every send that begins later sees the commitment. ours: calls inside
 * that are known not to redirect: 1 for the send whose verdict this is. A socket whose verdict may be of a
 * version without commitments never commits. Reports whether it has committed.
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
 * In its verdict, whose send is a call of its own. If the kernel had no memory for all of a message, it runs
 * the verdict again for the rest, but redirects the rest like the first part whatever the verdict says: then
 * it cannot commit.
 */
static __always_inline bool commit_in_verdict(struct sk_msg_md *msg, struct sock_state *state,
					      struct tcp_sock *tp)
{
	return has_committed(state) ||
	       (!BPF_CORE_READ((struct sk_msg *)msg, sk_redir) && commit(state, tp, 1));
}
