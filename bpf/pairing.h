/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How the two ends of a connection find each other: the only code that derives a key.
 *
 * The active end enters the sockhash first and writes a rendezvous entry. The passive end looks it up. If
 * there is none, the client is not on this node, and the passive socket is never touched. The first packet
 * that answers the active end proves that the passive end's callback has run. If nobody has joined by then,
 * the active end leaves again (leaving.h).
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "avoid.h"
#include "callbacks.h"
#include "helpers.h"
#include "history.h"
#include "key.h"
#include "maps.h"
#include "mark.h"
#include "peer.h"
#include "policy.h"
#include "share.h"
#include "socket.h"
#include "totals.h"
#include "window.h"

/*
 * For a plain handshake snd_nxt would do, but a Fast Open SYN carries data and moves it. bytes_acked counts
 * from the SYN, so the difference is the ISN in both cases.
 */
static __always_inline struct isn_pair active_pair(const struct bpf_sock_ops *ops)
{
	return (struct isn_pair){ .own = ops->snd_una - (__u32)ops->bytes_acked, .peer = ops->rcv_nxt - 1 };
}

static __always_inline struct isn_pair passive_pair(const struct bpf_sock_ops *ops)
{
	return (struct isn_pair){ .own = ops->snd_nxt - 1, .peer = ops->rcv_nxt - 1 };
}

/* Why a sockmap must not hold this socket; RESULT_JOINED: no objection. */
static __always_inline enum result objection(struct tcp_sock *tp)
{
	/*
	 * Subflows share the callbacks, and on kernels before fbade4bd08ba inserting one corrupts the MPTCP
	 * socket.
	 */
	if (bpf_core_field_exists(tp->is_mptcp) && BPF_CORE_READ_BITFIELD(tp, is_mptcp))
		return RESULT_MPTCP;
	if (tp->inet_conn.icsk_ulp_ops)
		return RESULT_ULP;
	if (zerocopy(tp) || BPF_CORE_READ_BITFIELD(tp, recvmsg_inq) || stamps_sends(tp) ||
	    stamps_receives(tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags))
		return RESULT_OPTION;
	return RESULT_JOINED;
}

/*
 * The state for a new connection. NULL if there is no memory, if the link of a parent cgroup has handled this
 * connection already, or if the socket is still in the sockhash for an earlier one. The state of an earlier
 * connection of a socket that was disconnected is overwritten.
 */
static __always_inline struct sock_state *new_state(struct bpf_sock *sk, struct isn_pair self, enum role role)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	const struct config *cfg;
	__u32 zero = 0;

	if (!state || (state->ends & END_COUNTED) ||
	    (state->self.own == self.own && state->self.peer == self.peer && state->established_ns))
		return NULL;
	cfg = bpf_map_lookup_elem(&config, &zero);
	__builtin_memset(state, 0, sizeof(*state));
	state->self = self;
	state->role = role;
	state->established_ns = bpf_ktime_get_ns();
	state->epoch = cfg ? epoch_of(cfg) : 0;
	state->sent_by_tcp_at = now_ticks();
	state->window = first_window(cfg);
	state->habits = HABIT_CAN_COMMIT;
	return state;
}

/*
 * Removes a socket from the sockhash, with its state. Only for a socket that no peer knows, or unread bytes
 * would be lost.
 */
static __always_inline void remove_unpaired(struct bpf_sock *sk, struct sock_state *state)
{
	struct isn_pair self = state->self;

	bpf_map_delete_elem(&sockets, &self);
	count_out(state);
	bpf_sk_storage_delete(&states, sk);
}

static __always_inline enum result enter_sockhash(struct bpf_sock_ops *ops, struct sock_state *state)
{
	struct share *share;
	enum result result = ask_share(state, &share);
	struct isn_pair self = state->self;
	long err;

	if (result != RESULT_JOINED)
		return result;
	err = bpf_sock_hash_update(ops, &sockets, &self, BPF_NOEXIST);
	if (!err) {
		count_in(state, share);
		return RESULT_JOINED;
	}
	if (err == -E2BIG)
		return RESULT_MAP_FULL;
	return err == -EEXIST ? RESULT_COLLISION : RESULT_ERROR;
}

/*
 * With Fast Open data on the SYN the passive end comes first. It finds the active one by the only number that
 * is known then: the key {client ISN, 0}, written before the SYN is sent.
 */
static __always_inline struct isn_pair fast_open_key(__u32 client_isn)
{
	return (struct isn_pair){ .own = client_isn, .peer = 0 };
}

static __always_inline void announce_fast_open(struct bpf_sock_ops *ops, struct tcp_sock *tp, __u64 netns,
					       __u8 ends)
{
	struct isn_pair key = fast_open_key(tp->write_seq);
	struct rendezvous rv = { .active_sk = (__u64)tp, .active_netns = netns, .ends = ends };

	if (bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG))
		return; /* nothing would remove the entry */
	bpf_map_update_elem(&flows, &key, &rv, BPF_NOEXIST);
}

/* Whatever the result of the SYN: the passive end has found the announcement by now, or never will. */
static __always_inline void withdraw_announcement(struct tcp_sock *tp, __u32 client_isn)
{
	struct isn_pair key = fast_open_key(client_isn);
	const struct rendezvous *rv = bpf_map_lookup_elem(&flows, &key);

	if (rv && rv->active_sk == (__u64)tp)
		bpf_map_delete_elem(&flows, &key);
}

/* The socket leaves SYN_SENT. */
static __always_inline void on_answer_to_syn(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (tp)
		withdraw_announcement(tp, active_pair(ops).own);
}

/*
 * Fast Open: the passive end is in the rendezvous entry already. It has asked the policies for the namespace
 * that announced the connection. That may be another one than this, because a program that may use TCP_REPAIR
 * chooses its numbers.
 */
static __always_inline enum result meet_waiting_passive(struct sock_state *state, struct tcp_sock *tp)
{
	struct rendezvous *rv = bpf_map_lookup_elem(&flows, &state->self);

	if (!rv || rv->active_sk || !meet_passive(state, rv))
		return RESULT_COLLISION;
	epoch_before_policies();
	if (!flow_permitted(state->netns, state->peer_netns, state->port, &state->ends))
		return RESULT_DENIED;
	rv->active_netns = state->netns;
	rv->ends = state->ends & (END_OWN | END_PEER);
	rv->active_state = (__u64)state;
	publish_address(&rv->active_sk, (__u64)tp);
	return RESULT_JOINED;
}

static __always_inline enum result open_rendezvous(struct sock_state *state, struct tcp_sock *tp)
{
	struct rendezvous rv = { .active_sk = (__u64)tp,
				 .active_state = (__u64)state,
				 .active_netns = state->netns,
				 .ends = state->ends };

	if (!bpf_map_update_elem(&flows, &state->self, &rv, BPF_NOEXIST))
		return RESULT_JOINED;
	return meet_waiting_passive(state, tp);
}

/*
 * Receive calls that wait would return early, see docs/adr/0007. A client's descriptor shows now whether its
 * program waits in them. A server's is created by accept(2), so its first receive call shows it.
 */
static __always_inline bool waits_in_calls(struct tcp_sock *tp)
{
	return (learning() & LEARN_BLOCKING) && blocking(tp);
}

static __always_inline void on_active(struct bpf_sock_ops *ops, struct bpf_sock *sk, __u64 netns, __u8 ends)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct isn_pair self = active_pair(ops);
	struct sock_state *state;
	enum result result;

	if (!tp)
		return;
	/* Without a packet this is TCP_REPAIR: the program chose the sequence numbers. */
	result = ops->skb_len ? objection(tp) : RESULT_REPAIR;
	if (result == RESULT_JOINED && helper_reads_port(connected_port((__u64)tp)))
		result = RESULT_HELPER;
	if (result == RESULT_JOINED && waits_in_calls(tp))
		result = RESULT_BLOCKING;
	if (result == RESULT_JOINED)
		result = fruitless(tp, netns);
	if (result != RESULT_JOINED)
		return count_flow(netns, ROLE_ACTIVE, result);
	state = new_state(sk, self, ROLE_ACTIVE);
	if (!state)
		return;
	state->netns = netns;
	state->ends = ends;
	result = open_rendezvous(state, tp);
	if (result != RESULT_JOINED) {
		/* The entry belongs to another flow: do not touch it. */
		bpf_sk_storage_delete(&states, sk);
		return count_flow(netns, ROLE_ACTIVE, result);
	}
	result = enter_sockhash(ops, state);
	if (result != RESULT_JOINED) {
		bpf_map_delete_elem(&flows, &self);
		bpf_sk_storage_delete(&states, sk);
		return count_flow(netns, ROLE_ACTIVE, result);
	}
	set_first_mark(ops, tp);
	ask_at_handshake(ops, state, true);
}

/* The rendezvous entry of the passive end's client. NULL: the client is not on this node. */
static __always_inline struct rendezvous *find_active(struct tcp_sock *tp, struct isn_pair key)
{
	struct isn_pair announced = fast_open_key(key.own);
	struct rendezvous *rv = bpf_map_lookup_elem(&flows, &key);
	struct rendezvous copy;

	if (rv || !tp->fastopen_rsk)
		return rv;
	rv = bpf_map_lookup_elem(&flows, &announced);
	if (!rv)
		return NULL;
	copy = *rv;
	copy.active_sk = 0; /* the active end fills it in when the SYN-ACK arrives */
	if (bpf_map_update_elem(&flows, &key, &copy, BPF_NOEXIST))
		return NULL;
	return bpf_map_lookup_elem(&flows, &key);
}

static __always_inline void on_passive(struct bpf_sock_ops *ops, struct bpf_sock *sk, __u64 netns, __u8 ends)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct isn_pair self = passive_pair(ops);
	struct sock_state *state;
	enum result result;
	struct rendezvous *rv;
	__u32 epoch;

	if (!tp)
		return;
	rv = find_active(tp, mirrored(self));
	if (!rv)
		return count_flow(netns, ROLE_PASSIVE, RESULT_REMOTE);
	/*
	 * Another socket has joined: through the link of a parent cgroup, or a collision. This socket stays
	 * out.
	 */
	if (rv->passive_sk)
		return;
	result = objection(tp);
	epoch = epoch_now();
	ends |= mirrored_ends(rv->ends);
	if (result == RESULT_JOINED && !flow_permitted(netns, rv->active_netns, ops->local_port, &ends))
		result = RESULT_DENIED;
	if (result == RESULT_JOINED && helper_reads_port(ops->local_port))
		result = RESULT_HELPER;
	if (result == RESULT_JOINED && avoided(netns, ops->local_port))
		result = RESULT_AVOIDED;
	if (result != RESULT_JOINED) {
		rv->kept_out = result;
		return count_flow(netns, ROLE_PASSIVE, result);
	}
	state = new_state(sk, self, ROLE_PASSIVE);
	if (!state)
		return;
	state->epoch = epoch; /* as of when the policies were asked */
	state->ends = ends;
	state->netns = netns;
	state->peer_netns = rv->active_netns;
	meet_late_active(state, rv); /* except with Fast Open, it is there already */
	state->port = ops->local_port;
	result = enter_sockhash(ops, state);
	if (result != RESULT_JOINED) {
		bpf_sk_storage_delete(&states, sk);
		return count_flow(netns, ROLE_PASSIVE, result);
	}
	set_first_mark(ops, tp);
	ask_at_handshake(ops, state, learning());
	rv->passive_netns = netns;
	rv->passive_state = (__u64)state;
	rv->port = ops->local_port;
	rv->ends = mirrored_ends(ends);
	/* Last: from here on the active end may redirect to this socket, which is in the sockhash. */
	publish_address(&rv->passive_sk, (__u64)tp);
	count_flow(netns, ROLE_PASSIVE, RESULT_JOINED);
	count_flow(state->peer_netns, ROLE_ACTIVE, RESULT_JOINED);
}
