// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * TCP between containers of one node, handed from socket to socket.
 *
 *   sock_ops       per cgroup: takes the sockets of registered network namespaces into the sockhash
 *   sock_ops_any   the same for a cgroup attached with sockmapctl attach: sockets of every network namespace
 *   rearm          runs after a program of others that may have cleared our callbacks, and sets them again
 *   verdict        per message: redirects it to the other end, or passes it to TCP
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "maps.h"
#include "totals.h"
#include "policy.h"
#include "pairing.h"
#include "leaving.h"
#include "wake.h"
#include "verdict.h"
#include "dispatch.h"
#include "tap.h"

/* Puts these types into BTF, where bpf2go finds them. No program refers to it, so it is never loaded. */
struct {
	struct flow_record flow_record;
	enum role role;
	enum mode mode;
	enum reason reason;
	enum result result;
	enum peers peers;
	enum coexist coexist;
	enum helpers_mode helpers_mode;
	enum learn learn;
	enum event event;
	struct tap_record tap_record;
	struct avoided avoided;
	enum end_flag end_flag;
	enum habit habit;
	enum asked_hazard asked_hazard;
	enum window_number window_number;
	enum tick tick;
	enum abi abi;
	enum avoid_time avoid_time;
	enum call_bucket call_bucket;
	enum tap_size tap_size;
	enum stays stays;
} types_for_user_space __attribute__((unused));

SEC("sockops")
int sock_ops(struct bpf_sock_ops *ops)
{
	return dispatch(ops, false, NULL);
}

SEC("sockops")
int sock_ops_any(struct bpf_sock_ops *ops)
{
	return dispatch(ops, true, NULL);
}

/* Attached where a program of others runs after sock_ops, see docs/adr/0017. */
SEC("sockops")
int rearm(struct bpf_sock_ops *ops)
{
	struct sock_state *state;
	struct bpf_sock *sk;

	if (!is_one_of(ops->op, OPS_AT_HANDSHAKE))
		return 1;
	sk = ops->sk;
	if (!sk)
		return 1;
	state = bpf_sk_storage_get(&states, sk, NULL, 0);
	if (state)
		ask_for(ops, state, LIFE_FLAGS);
	return 1;
}

/* Always SK_PASS: the helper's own result for an absent peer would make send(2) fail with EACCES. */
SEC("sk_msg")
int verdict(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct sock_state *state;
	struct isn_pair peer;
	struct config *cfg;
	enum reason reason;
	__u32 zero = 0, now;

	if (!sk)
		return SK_PASS;
	state = bpf_sk_storage_get(&states, sk, NULL, 0);
	cfg = bpf_map_lookup_elem(&config, &zero);
	if (!state || !cfg)
		return SK_PASS;
	now = now_ticks();
	reason = why_tcp(msg, sk, state, cfg, now);
	if (reason == REASON_NONE) {
		peer = mirrored(state->self);
		if (bpf_msg_redirect_hash(msg, &sockets, &peer, BPF_F_INGRESS) == SK_PASS) {
			if (tap_wants(cfg, state, true))
				tap_message(msg, state, cfg, true);
			state->mode = MODE_REDIRECT;
			state->mixed_seq = 0;
			state->burst_messages++;
			count_redirected(state, msg->size);
			state->redirected_at = now;
			return SK_PASS;
		}
		reason = REASON_PEER_LEFT;
	}
	if (cfg->tap.with_tcp)
		know_peer(state);
	if (tap_wants(cfg, state, false))
		tap_message(msg, state, cfg, false);
	/* After the tap, or the verifier would check the tap for each result of this call. */
	leave_if_it_gains_nothing(msg, state, reason);
	/* REASON_UNREAD follows any other reason: keep the one that came first. */
	if (state->mode != MODE_TCP || reason != REASON_UNREAD)
		state->reason = reason;
	if (state->mode != MODE_TCP)
		count_fallback(state->netns, reason);
	if (state->mode == MODE_REDIRECT && peer_has_unread(state->peer_sk))
		note_mixed(state, sk);
	state->mode = MODE_TCP;
	state->sent_by_tcp_at = now;
	state->tcp_messages++;
	return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
