/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The other end of a connection. No other file reads its struct sock_state. Its socket is read in
 * peer_socket.h, in memory.h (protocol and memory cgroup), in helpers.h and tap.h (addresses), and by
 * functions of socket.h and window.h that take any socket.
 *
 * Each end knows the kernel addresses of the other end's socket (peer_sk) and of its struct sock_state
 * (peer_state). Both addresses are HINTS. The other end is not locked, and nothing keeps it alive: its memory
 * may have been freed, or belong to another socket by now. Therefore:
 *
 * A hint is only read by bpf_probe_read_kernel, BPF_CORE_READ or load_long, which survive any address.
 *
 * A value that was read decides nothing that could cost a byte. The redirect goes by key into the sockhash,
 * which a closed peer has left. A wrong value costs acceleration, or one wrong number in a statistic.
 *
 * Where that is not enough, peer_state_is_current is called AFTER the read: it compares the keys of both
 * ends.
 *
 * Fields of the other end's struct sock_state that are read: self, redirected_bytes, redirected_messages,
 * redirected_at, reason, left, habits, reader, mixed_seq. Two pairs of them are read as one stretch of
 * memory; the assertions below bind their places.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "key.h"
#include "maps.h"
#include "policy.h"
#include "socket.h"

/* How much the other end has redirected to this one. */
struct redirected {
	__u64 bytes;
	__u64 messages;
};

_Static_assert(__builtin_offsetof(struct sock_state, redirected_messages) -
			       __builtin_offsetof(struct sock_state, redirected_bytes) ==
		       __builtin_offsetof(struct redirected, messages),
	       "struct redirected is a stretch of struct sock_state");

/* What the observers know of the other end's program. */
struct observed {
	__u32 habits; /* enum habit */
	__u32 reader; /* enum reader */
};

_Static_assert(__builtin_offsetof(struct sock_state, reader) -
			       __builtin_offsetof(struct sock_state, habits) ==
		       __builtin_offsetof(struct observed, reader),
	       "struct observed is a stretch of struct sock_state");

static __always_inline const struct sock_state *state_of_peer(const struct sock_state *state)
{
	return (const struct sock_state *)state->peer_state;
}

/* Is the hint still the state of this connection's other end? Its key is then the mirror image of ours. */
static __always_inline bool peer_state_is_current(const struct sock_state *state)
{
	const struct sock_state *peer = state_of_peer(state);
	struct isn_pair key = {};

	if (peer)
		bpf_probe_read_kernel(&key, sizeof(key), &peer->self);
	return key.own == state->self.peer && key.peer == state->self.own;
}

static __always_inline struct redirected redirected_by_peer(const struct sock_state *state)
{
	const struct sock_state *peer = state_of_peer(state);
	struct redirected sent = {};

	if (peer)
		bpf_probe_read_kernel(&sent, sizeof(sent), &peer->redirected_bytes);
	return sent;
}

static __always_inline __u64 messages_redirected_by_peer(const struct sock_state *state)
{
	const struct sock_state *peer = state_of_peer(state);
	__u64 messages = 0;

	if (peer)
		bpf_probe_read_kernel(&messages, sizeof(messages), &peer->redirected_messages);
	return messages;
}

/*
 * Has the other end redirected anything to this one? An end that redirects while no observer runs sets no
 * habit, and observers may come later, with an upgrade. Messages are counted before they are queued, so this
 * covers those on their way.
 */
static __always_inline bool peer_has_redirected(const struct sock_state *state)
{
	return messages_redirected_by_peer(state);
}

/* Changes whenever anything comes from the other end, by TCP or by redirect. */
static __always_inline __u32 peer_progress(const struct sock_state *state, struct tcp_sock *tp)
{
	return tp->rcv_nxt + (__u32)messages_redirected_by_peer(state);
}

static __always_inline struct observed observed_of_peer(const struct sock_state *state)
{
	const struct sock_state *peer = state_of_peer(state);
	struct observed observed = {};

	if (peer)
		bpf_probe_read_kernel(&observed, sizeof(observed), &peer->habits);
	return observed;
}

/* See mixed_seq in struct sock_state; 0: the other end is not known. */
static __always_inline __u32 mixed_seq_of_peer(const struct sock_state *state)
{
	const struct sock_state *peer = state_of_peer(state);
	__u32 mixed_seq = 0;

	if (peer)
		bpf_probe_read_kernel(&mixed_seq, sizeof(mixed_seq), &peer->mixed_seq);
	return mixed_seq;
}

/* TICKs: when the other end last redirected something; 0: never, or it is not known. */
static __always_inline __u32 redirected_at_of_peer(const struct sock_state *state)
{
	const struct sock_state *peer = state_of_peer(state);
	__u32 at = 0;

	if (peer)
		bpf_probe_read_kernel(&at, sizeof(at), &peer->redirected_at);
	return at;
}

/* Why the other end is on TCP, enum reason. */
static __always_inline __u8 reason_of_peer(const struct sock_state *state)
{
	const struct sock_state *peer = state_of_peer(state);
	__u8 reason = REASON_NONE;

	if (peer)
		bpf_probe_read_kernel(&reason, sizeof(reason), &peer->reason);
	return reason;
}

/*
 * Will the other end never redirect again? It has committed to TCP (commit.h), or it left as a plain reader
 * without that: then it has no psock, so none of its calls is inside the redirecting code.
 */
static __always_inline bool peer_has_committed(const struct sock_state *state)
{
	const struct sock_state *peer = state_of_peer(state);
	__u32 habits = 0;
	__u8 left = 0;

	if (!peer)
		return false;
	bpf_probe_read_kernel(&habits, sizeof(habits), &peer->habits);
	bpf_probe_read_kernel(&left, sizeof(left), &peer->left);
	if (!(habits & HABIT_COMMITTED) && !(left && !psock_of((struct sock *)state->peer_sk)))
		return false;
	return peer_state_is_current(state);
}

/* The active end learns who has joined. False: nobody has joined yet. */
static __always_inline bool meet_passive(struct sock_state *state, struct rendezvous *rv)
{
	__u64 passive_sk = published_address(&rv->passive_sk);

	if (!passive_sk)
		return false;
	state->peer_netns = rv->passive_netns;
	state->port = rv->port;
	state->ends |= rv->ends;
	state->peer_state = rv->passive_state;
	state->peer_sk = passive_sk;
	return true;
}

/* Fast Open: the active end came second. */
static __always_inline bool meet_late_active(struct sock_state *state, struct rendezvous *rv)
{
	__u64 active_sk = published_address(&rv->active_sk);

	if (!active_sk)
		return false;
	state->peer_netns = rv->active_netns; /* it may be another one than the one that announced itself */
	state->ends |= mirrored_ends(rv->ends);
	state->peer_state = rv->active_state;
	state->peer_sk = active_sk;
	return true;
}

/*
 * Finds the other end in the rendezvous entry, unless it is known: the active end does so at the first
 * answer, or when it sends before that. Reports whether the other end is known.
 */
static __always_inline bool know_peer(struct sock_state *state)
{
	struct isn_pair key;
	struct rendezvous *rv;

	if (state->peer_sk)
		return true;
	key = rendezvous_key(state);
	rv = bpf_map_lookup_elem(&flows, &key);
	if (!rv)
		return false;
	return state->role == ROLE_ACTIVE ? meet_passive(state, rv) : meet_late_active(state, rv);
}

/*
 * An end that closes deletes the rendezvous entry, and its peer is then no longer ESTABLISHED, except for a
 * moment before a reset. So if an end is ESTABLISHED and does not know its peer, a missing entry was evicted.
 */
static __always_inline bool rendezvous_missing(const struct sock_state *state)
{
	struct isn_pair key = rendezvous_key(state);

	return !bpf_map_lookup_elem(&flows, &key);
}

/*
 * Does the peer redirect to this reader although it has not called receive yet? If its state is no longer
 * that of this connection, the peer is gone, and what it redirected may wait here: then also true.
 */
static __always_inline bool peer_redirects_early(struct sock_state *state)
{
	struct observed observed;

	if (!know_peer(state))
		return false;
	observed = observed_of_peer(state);
	return (observed.habits & HABIT_REDIRECTS_EARLY) || !peer_state_is_current(state);
}
