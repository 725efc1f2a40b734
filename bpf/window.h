/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much may wait for a reader. The kernel bounds neither bytes nor messages, and does not charge about 1
 * KiB of each message to anybody. A flow begins with a window of FIRST_BYTES and FIRST_MESSAGES. When the
 * reader has taken all of a burst that used half of the window, it becomes four times as large, up to
 * maxBacklogBytes and maxBacklogMessages. So a reader that does not read costs little. The growth of all
 * windows to one pod is bounded, too. User space calculates with the same numbers.
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
 * With which window a flow begins. If FIONREAD omits what came over TCP, programs that use it (nginx) hang
 * when TCP bytes follow redirected ones. So then more may wait before that happens.
 */
static __always_inline __u8 first_window(const struct config *cfg)
{
	return cfg && open_hazard(cfg, HAZARD_FIONREAD_TCP) ? 1 : 0;
}

/*
 * By how much a window that has grown so often is larger than the first. It depends on no setting, so the
 * same amount can be subtracted later.
 */
static __always_inline __s64 grown_by(__u32 times)
{
	return (__s64)(FIRST_BYTES + FIRST_MESSAGES * MESSAGE_BYTES) * ((1 << 2 * (times & 7)) - 1);
}

/* Does the flow have the whole window that the settings allow? */
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
	__s64 budget = POD_FLOWS *
		       ((__s64)cfg->max_backlog_bytes + (__s64)cfg->max_backlog_messages * MESSAGE_BYTES);
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

/* The sender is gone, so its growth is subtracted from the pod's share. */
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
 * A sender that has set SO_SNDBUF wants to be stopped early, as TCP would: when both buffers are full. The
 * kernel stores twice the bytes that were asked for, for its own overhead. Without SO_SNDBUF there is no such
 * bound.
 */
static __always_inline __u32 sndbuf_bound(struct tcp_sock *tp, int rcvbuf)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	if (!(BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_SNDBUF_LOCK))
		return ~0U;
	return (__u32)(sk->sk_sndbuf + rcvbuf) / 2;
}

/*
 * tcp_rmem[2] of the socket's network namespace, in bytes: how far a receive buffer grows whose size no
 * program has set. at: the socket's address, which may be a hint.
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
 * How much window TCP may announce for a buffer that grows by itself, in bytes: half of what redirected bytes
 * leave, because segments take more of the buffer than the bytes that they carry.
 */
static __always_inline __u32 announced_limit(const struct sock *sk)
{
	return rcvbuf_limit((__u64)sk) / 4;
}

/*
 * The reader's side, before a segment announces its window: limits the window so that the buffer has space
 * for redirected bytes and for what was announced. If the kernel lets the buffer grow, it lets the window
 * grow, too.
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

/* The socket leaves, so its window may be what its buffer allows. ctx: as for set_mark. */
static __always_inline void restore_window_clamp(void *ctx, struct tcp_sock *tp)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	int whole = sk->sk_rcvbuf;

	if (tp->window_clamp == announced_limit(sk))
		bpf_setsockopt(ctx, SOL_TCP, TCP_WINDOW_CLAMP, &whole, sizeof(whole));
}

/*
 * Do redirected bytes fill their part of the reader's receive buffer? They are charged to it, and however
 * full it is, TCP sends as much as was announced: a window is not withdrawn. What comes over TCP and finds no
 * space is dropped, and the sender retries after 200 ms, 400 ms and so on, long after the reader has caught
 * up. So redirected bytes get a quarter of a buffer whose size the program has set, or half of it if they are
 * one message. Any other buffer grows up to rcvbuf_limit, of which they get half.
 */
static __always_inline bool fills_buffer(const struct sock_state *state, __u32 backlog, __u32 size,
					 int rcvbuf)
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
 * Nothing waits, so a new burst begins. One message is always redirected, however large, or a small bound
 * would stop every large write.
 */
static __always_inline void begin_burst(struct sock_state *state, const struct config *cfg, struct window w)
{
	if ((state->ends & END_USED_HALF) || state->burst_messages > w.messages / 2)
		grow_window(state, cfg, w);
	state->ends &= ~END_USED_HALF;
	state->burst_messages = 0;
}

/*
 * burst_messages is an upper limit of what waits, and backlog, which the kernel charges to the reader, may
 * contain more than redirected bytes. So over a bound the queue itself is counted. A reader that is always a
 * few messages behind but continues has shown that it reads, too: the window grows. own: sndbuf_bound.
 * Reports enum reason. Not inlined, so that the verifier checks it once.
 */
__attribute__((noinline)) int over_bounds(struct sock_state *state, struct config *cfg, __u32 backlog,
					  __u32 own, __u32 size)
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
