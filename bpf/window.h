/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much may wait for a reader. The kernel bounds neither bytes nor messages, and about 1 KiB of each
 * message is charged to nobody. A flow begins with a window of FIRST_BYTES and FIRST_MESSAGES. The window
 * becomes four times as large when the reader has taken all of a burst that used half of it, up to
 * maxBacklogBytes and maxBacklogMessages: who does not read costs little, who reads gets all. By how much the
 * windows of all flows to one pod may grow is bounded, too. User space counts with the same numbers.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "maps.h"
#include "peer_socket.h"
#include "probe.h"
#include "totals.h"

struct window {
	__u32 bytes;
	__u32 messages;
};

static __always_inline struct window window_of(const struct sock_state *state, const struct config *cfg)
{
	__u32 shift = 2 * (state->window & 7);
	struct window w = { .bytes = (__u32)FIRST_BYTES << shift, .messages = FIRST_MESSAGES << shift };

	if (w.bytes > cfg->max_backlog_bytes)
		w.bytes = cfg->max_backlog_bytes;
	if (w.messages > cfg->max_backlog_messages)
		w.messages = cfg->max_backlog_messages;
	return w;
}

/*
 * With which window a flow begins: where FIONREAD leaves out what came by TCP, programs that ask it (nginx)
 * hang when they find bytes by TCP behind redirected ones, so there more may wait before that happens.
 */
static __always_inline __u8 first_window(const struct config *cfg)
{
	return cfg && open_hazard(cfg, HAZARD_FIONREAD_TCP) ? 1 : 0;
}

/*
 * By how much a window that has grown so often is larger than the first. Of no setting, so that it can be
 * given back.
 */
static __always_inline __s64 grown_by(__u32 times)
{
	return (__s64)(FIRST_BYTES + FIRST_MESSAGES * MESSAGE_BYTES) * ((1 << 2 * (times & 7)) - 1);
}

/* Has the flow the whole window that the settings allow? */
static __always_inline bool is_whole(struct window w, const struct config *cfg)
{
	return w.bytes == cfg->max_backlog_bytes && w.messages == cfg->max_backlog_messages;
}

static __always_inline struct share *share_of_reader(__u64 netns)
{
	struct share *share = bpf_map_lookup_elem(&shares, &netns);
	__u64 unregistered = 0;

	return share ? share : bpf_map_lookup_elem(&shares, &unregistered);
}

/* The reader has taken all of a burst that used half of the window. */
static __always_inline void grow_window(struct sock_state *state, const struct config *cfg, struct window w)
{
	__s64 budget = POD_FLOWS * ((__s64)cfg->max_backlog_bytes +
				    (__s64)cfg->max_backlog_messages * MESSAGE_BYTES);
	__s64 more = grown_by(state->window + 1) - grown_by(state->window);
	struct share *share;

	if (state->window >= WINDOW_MAX || is_whole(w, cfg))
		return;
	share = share_of_reader(state->peer_netns);
	if (!share)
		return;
	if (share->granted_bytes + more > budget)
		return count_event(EVENT_WINDOW_REFUSED);
	__sync_fetch_and_add(&share->granted_bytes, more);
	state->window++;
}

/* The sender is gone: what its window had grown by is the pod's again. */
static __always_inline void return_window(struct sock_state *state)
{
	__u32 zero = 0;
	__u8 first = first_window(bpf_map_lookup_elem(&config, &zero));
	struct share *share;

	if (state->window <= first)
		return;
	share = share_of_reader(state->peer_netns);
	if (share)
		__sync_fetch_and_add(&share->granted_bytes, grown_by(first) - grown_by(state->window));
	state->window = first;
}

/*
 * A program that has set SO_SNDBUF wants to be stopped early, as TCP would: by what both buffers hold. The
 * kernel keeps twice the bytes that were asked for, for its own overhead. A program that has not: no bound of
 * its own.
 */
static __always_inline __u32 sndbuf_bound(struct tcp_sock *tp, int rcvbuf)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	if (!(BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_SNDBUF_LOCK))
		return ~0U;
	return (__u32)(sk->sk_sndbuf + rcvbuf) / 2;
}

/*
 * tcp_rmem[2] of the socket's network namespace, in bytes: how far the kernel lets a receive buffer grow whose
 * size no program has set. at: its address, which may be stale.
 */
static __always_inline __u32 rcvbuf_limit(__u64 at)
{
	const struct net *net = NULL;
	const struct sock *sk = NULL;
	__u64 tcp_rmem = load_long(at + bpf_core_field_offset(sk->__sk_common.skc_net)) +
			 bpf_core_field_offset(net->ipv4.sysctl_tcp_rmem);

	return (__u64)load_long(tcp_rmem + sizeof(int)) >> 32;
}

/*
 * How much TCP may announce of a buffer that grows by itself, in bytes: half of what redirected ones leave, as
 * segments take more of the buffer than the bytes that they carry.
 */
static __always_inline __u32 announced_limit(const struct sock *sk)
{
	return rcvbuf_limit((__u64)sk) / 4;
}

/*
 * The reader's side, before it sends a segment and with it its window: redirected bytes and what was announced
 * find room together. Where the kernel lets its buffer grow, it lets the window grow with it.
 */
static __always_inline void limit_window_clamp(struct bpf_sock_ops *ops, struct tcp_sock *tp)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	__u32 most;

	if (tp->window_clamp <= FIRST_BYTES || (BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_RCVBUF_LOCK))
		return;
	most = announced_limit(sk);
	if (tp->window_clamp > most)
		bpf_setsockopt(ops, SOL_TCP, TCP_WINDOW_CLAMP, &most, sizeof(most));
}

/* The socket leaves: its window may be what its buffer allows. ctx: that of a callback, or the socket itself. */
static __always_inline void restore_window_clamp(void *ctx, struct tcp_sock *tp)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	int whole = sk->sk_rcvbuf;

	if (tp->window_clamp == announced_limit(sk))
		bpf_setsockopt(ctx, SOL_TCP, TCP_WINDOW_CLAMP, &whole, sizeof(whole));
}

/*
 * Do redirected bytes fill their part of the reader's receive buffer? They are charged to it, and the kernel
 * lets TCP send as much as it has announced however full the buffer is: a window is not taken back. What comes
 * by TCP and finds no room is dropped, and the sender tries again after 200 ms, 400 ms and so on, long after
 * the reader has gone on. So of a buffer whose size the program has set, redirected bytes get a quarter, or
 * half if they are one message. Any other grows by itself up to rcvbuf_limit, of which they get half.
 */
static __always_inline bool fills_buffer(const struct sock_state *state, __u32 backlog, __u32 size, int rcvbuf)
{
	struct sock *peer = (struct sock *)state->peer_sk;
	__u32 part = backlog ? (__u32)rcvbuf / 4 : (__u32)rcvbuf / 2;

	if (backlog + size <= part)
		return false;
	if (!(BPF_CORE_READ_BITFIELD_PROBED(peer, sk_userlocks) & SOCK_RCVBUF_LOCK) &&
	    backlog + size <= rcvbuf_limit(state->peer_sk) / 2)
		return false;
	return !backlog || peer_has_unread(state->peer_sk);
}

static __always_inline enum reason note_backlog(struct sock_state *state, __u32 backlog, struct window w)
{
	if (backlog > state->backlog_high)
		state->backlog_high = backlog;
	if (backlog > w.bytes / 2)
		state->ends |= END_USED_HALF;
	return REASON_NONE;
}

/*
 * Nothing waits: a new burst begins. One message is always let through, however big: else a small bound would
 * stop every big write.
 */
static __always_inline void begin_burst(struct sock_state *state, const struct config *cfg, struct window w)
{
	if ((state->ends & END_USED_HALF) || state->burst_messages > w.messages / 2)
		grow_window(state, cfg, w);
	state->ends &= ~END_USED_HALF;
	state->burst_messages = 0;
}

/*
 * How many messages wait is not known without counting; it is at most what was sent since none was seen
 * waiting. Bytes are what the kernel charges to the reader, which may be more than what was redirected. So
 * over a bound the queue itself is looked at. A reader that goes on but is always a few messages behind has
 * shown that it reads, too. own: sndbuf_bound. Reports enum reason. Not inlined, so that the verifier looks
 * at it once.
 */
__attribute__((noinline)) int over_bounds(struct sock_state *state, struct config *cfg, __u32 backlog, __u32 own,
					  __u32 size)
{
	__u32 most, waiting = 0, bytes;
	struct window w;

	if (!state || !cfg)
		return REASON_NONE;
	w = window_of(state, cfg);
	bytes = own < w.bytes ? own : w.bytes;
	if (backlog && (backlog + size > bytes || state->burst_messages >= w.messages)) {
		most = w.messages < COUNTED_MESSAGES ? w.messages : COUNTED_MESSAGES;
		waiting = messages_waiting(state->peer_sk, most);
		if (waiting && backlog + size > bytes)
			return REASON_BACKLOG_BYTES;
		if (waiting >= most)
			return REASON_BACKLOG_MESSAGES;
		if (waiting) {
			grow_window(state, cfg, w);
			state->burst_messages = waiting;
			return note_backlog(state, backlog + size, w);
		}
	} else if (backlog) {
		return note_backlog(state, backlog + size, w);
	}
	if (size > own)
		return REASON_BACKLOG_BYTES;
	begin_burst(state, cfg, w);
	return note_backlog(state, backlog + size, w);
}
