/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copies messages for `sockmapctl tap`. The verdict calls tap_wants() for each message: while no tap listens,
 * one comparison of a word that it has read already.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "maps.h"

#define TAP_PIECES_MAX 64 /* of a message: 17, or up to 46 by the kernel's configuration */
#define TAP_CHUNKS_MAX (TAP_SNAP_MAX / TAP_CHUNK + TAP_PIECES_MAX)

static __always_inline bool tap_wants(const struct config *cfg, const struct sock_state *state,
				      bool redirected)
{
	const struct tap_filter *f = &cfg->tap;

	if (!f->snap_bytes)
		return false;
	if (f->netns && f->netns != state->netns && f->netns != state->peer_netns)
		return false;
	if ((f->port && f->port != state->port) || (!redirected && !f->with_tcp))
		return false;
	return bpf_ktime_get_ns() < cfg->tap_until_ns;
}

/* The addresses of both ends as one of them sees them. sk may be a hint, see peer.h. */
static __always_inline void write_addresses_of(struct tap_record *rec, struct sock *sk, bool is_passive)
{
	__u16 own_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	__u16 peer_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	__u8(*own)[16] = is_passive ? &rec->passive_addr : &rec->active_addr;
	__u8(*peer)[16] = is_passive ? &rec->active_addr : &rec->passive_addr;

	rec->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	rec->passive_port = is_passive ? own_port : peer_port;
	rec->active_port = is_passive ? peer_port : own_port;
	if (rec->family == AF_INET6) {
		BPF_CORE_READ_INTO(own, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(peer, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
	} else {
		*(__u32 *)own = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		*(__u32 *)peer = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	}
}

/* Addresses as the passive end sees them; as the sender sees them while it does not know the passive end. */
static __always_inline void write_addresses(struct tap_record *rec, const struct sock_state *state,
					    struct tcp_sock *tp)
{
	struct tcp_sock *passive = state->role == ROLE_PASSIVE ? tp : (struct tcp_sock *)state->peer_sk;

	if (passive)
		write_addresses_of(rec, &passive->inet_conn.icsk_inet.sk, true);
	else
		write_addresses_of(rec, &tp->inet_conn.icsk_inet.sk, false);
}

/*
 * The reader polls often enough. Waking it for each record would cost the sender an interrupt, more than the
 * copy. Only the record that fills a quarter of the ring wakes it.
 */
static __always_inline __u64 wakes(void *ring)
{
	__u64 waiting = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);
	__u64 much = bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) / 4;

	return waiting > much && waiting - much <= 2 * TAP_CHUNK ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Rings reserve constant sizes only. Several sizes, so that small messages do not waste space. */
static __always_inline bool emit(void *ring, const struct tap_record *rec, const void *data, const __u32 room)
{
	__u64 bytes = rec->captured_bytes;
	struct tap_record *out;

	out = bpf_ringbuf_reserve(ring, sizeof(*rec) + room, 0);
	if (!out)
		return false;
	__builtin_memcpy(out, rec, sizeof(*rec));
	/*
	 * Compare and use one register of 64 bits: older verifiers do not see that a half bounds the whole.
	 */
	barrier_var(bytes);
	if (bytes > room)
		bytes = room;
	if (bpf_probe_read_kernel(out + 1, bytes, data)) {
		bpf_ringbuf_discard(out, BPF_RB_NO_WAKEUP);
		return false;
	}
	bpf_ringbuf_submit(out, wakes(ring));
	return true;
}

static __always_inline bool emit_chunk(void *ring, const struct tap_record *rec, const void *data)
{
	if (rec->captured_bytes <= 128)
		return emit(ring, rec, data, 128);
	if (rec->captured_bytes <= 1024)
		return emit(ring, rec, data, 1024);
	return emit(ring, rec, data, TAP_CHUNK);
}

/*
 * Bytes of the message from offset on that are in one piece. The context has no list of pieces, but it is the
 * kernel's own struct sk_msg and can be read as such. A chunk never crosses the end of a piece: to pull such
 * a chunk, the kernel would copy both pieces into a new one of up to the whole message, and may find no
 * memory for it.
 */
static __always_inline __u32 in_one_piece(struct sk_msg_md *msg, __u32 offset)
{
	__u32 size = bpf_core_type_size(struct scatterlist);
	__u32 all = bpf_core_field_size(struct sk_msg, sg.data) / size;
	void *pieces = (void *)msg + bpf_core_field_offset(struct sk_msg, sg.data);
	__u32 i = 0, length = 0;

	if (bpf_probe_read_kernel(&i, sizeof(i),
				  (void *)msg + bpf_core_field_offset(struct sk_msg, sg.start)))
		return 0;
	for (int n = 0; n < TAP_PIECES_MAX && i < all; n++) {
		if (bpf_probe_read_kernel(&length, sizeof(length),
					  pieces + i * size +
						  bpf_core_field_offset(struct scatterlist, length)))
			return 0;
		if (offset < length)
			return length - offset;
		offset -= length;
		/*
		 * A ring whose last entry only chains to another list. No branch, which the verifier would
		 * follow.
		 */
		i = (i + 1) % (all - 1);
	}
	return 0;
}

/*
 * Global, so that the verifier checks it once and not for each iteration of the loop that calls it. Returns
 * how many bytes were captured.
 */
__noinline int tap_chunk(struct sk_msg_md *msg, struct tap_record *rec, __u32 snap)
{
	__u32 zero = 0, bytes, piece;
	void *ring;

	ring = bpf_map_lookup_elem(&tap_ring, &zero);
	if (!ring || !rec)
		return 0;
	bytes = snap - rec->offset;
	piece = in_one_piece(msg, rec->offset);
	if (bytes > piece)
		bytes = piece;
	if (bytes > TAP_CHUNK)
		bytes = TAP_CHUNK;
	/*
	 * Pulling one byte makes the piece readable, and copies pages that the program still owns (splice,
	 * sendfile).
	 */
	if (!bytes || bpf_msg_pull_data(msg, rec->offset, rec->offset + 1, 0))
		return 0;
	rec->captured_bytes = bytes;
	return emit_chunk(ring, rec, msg->data) ? bytes : 0;
}

static __always_inline void count_drop(__u32 bytes)
{
	struct tap_drops *drops;
	__u32 zero = 0;

	drops = bpf_map_lookup_elem(&tap_drops, &zero);
	if (drops) {
		__sync_fetch_and_add(&drops->messages, 1);
		__sync_fetch_and_add(&drops->bytes, bytes);
	}
}

/*
 * A message counts as dropped from the first chunk that was dropped. Global because the verdict calls it
 * twice, see above.
 */
__noinline int tap_message(struct sk_msg_md *msg, struct sock_state *state, const struct config *cfg,
			   bool redirected)
{
	struct bpf_sock *sk = msg->sk;
	struct tap_record rec = {};
	struct tcp_sock *tp;
	__u32 snap;

	tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (!tp || !state || !cfg)
		return 0;
	rec.message_bytes = msg->size;
	snap = cfg->tap.snap_bytes < rec.message_bytes ? cfg->tap.snap_bytes : rec.message_bytes;
	rec.time_ns = bpf_ktime_get_ns();
	rec.self = state->self;
	rec.netns = state->netns;
	rec.peer_netns = state->peer_netns;
	rec.role = state->role;
	rec.redirected = redirected;
	/* TCP's own sequence number, plus the bytes that TCP has never seen. */
	rec.seq = tp->write_seq + (__u32)state->redirected_bytes;
	write_addresses(&rec, state, tp);
	for (int i = 0; i < TAP_CHUNKS_MAX && rec.offset < snap; i++) {
		int bytes = tap_chunk(msg, &rec, snap);

		if (bytes <= 0)
			break;
		rec.offset += bytes;
	}
	if (rec.offset < snap)
		count_drop(snap - rec.offset);
	return 0;
}
