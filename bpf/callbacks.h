/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which callbacks a socket gets. The flags belong to the socket, not to a program: a sock_ops program that
 * sets or clears one does so for all programs of the socket's cgroups. So we clear only flags that nobody had
 * set when we set them, see docs/adr/0017.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "totals.h"

/*
 * For the life of a paired socket. The callback for header options runs before each segment and each ACK that
 * the socket sends. We never reserve space for options.
 */
#define LIFE_FLAGS (BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)

/*
 * Both may prove that the peer is established: the first RTT sample, and the first packet after the SYN-ACK.
 */
#define ANSWER_FLAGS (BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG)

/*
 * In sock_state.callbacks, beside the kernel's seven flags: something is to be decided when the peer answers.
 */
#define CALLBACKS_UNDECIDED (BPF_SOCK_OPS_ALL_CB_FLAGS + 1)

_Static_assert(CALLBACKS_UNDECIDED == 0x80, "no flag of the kernel");

static __always_inline void ask_for(struct bpf_sock_ops *ops, struct sock_state *state, __u32 flags)
{
	__u32 set = ops->bpf_sock_ops_cb_flags;

	if (!(flags & ~set))
		return;
	state->callbacks |= flags & ~set;
	bpf_sock_ops_cb_flags_set(ops, set | flags);
}

static __always_inline void stop_asking(struct bpf_sock_ops *ops, struct sock_state *state, __u32 flags)
{
	__u32 set = ops->bpf_sock_ops_cb_flags;

	flags &= state->callbacks & BPF_SOCK_OPS_ALL_CB_FLAGS;
	state->callbacks &= ~flags;
	if (set & flags)
		bpf_sock_ops_cb_flags_set(ops, set & ~flags);
}

/* Does a program of others run after ours? It may rely on a flag that we had set already. */
static __always_inline bool others_follow(void)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	return cfg && cfg->foreign;
}

/*
 * In two steps, so that programs which run after ours at the handshake do not see flags that we clear again
 * on every connection. Those are set at the first packet that the socket sends after it.
 */
static __always_inline void ask_at_handshake(struct bpf_sock_ops *ops, struct sock_state *state,
					     bool undecided)
{
	state->callbacks = undecided ? CALLBACKS_UNDECIDED : 0;
	ask_for(ops, state, LIFE_FLAGS);
}

static __always_inline void ask_for_answers(struct bpf_sock_ops *ops, struct sock_state *state)
{
	if (state->callbacks & CALLBACKS_UNDECIDED)
		ask_for(ops, state, ANSWER_FLAGS);
}

/* Everything that waits for the peer's answer is decided. */
static __always_inline void settle_callbacks(struct bpf_sock_ops *ops, struct sock_state *state)
{
	state->callbacks &= ~CALLBACKS_UNDECIDED;
	stop_asking(ops, state, ANSWER_FLAGS);
}

/*
 * The socket has left the sockhash. The callback for state changes stays set: it costs nothing until the end,
 * and others ask for it most often.
 */
static __always_inline void leave_callbacks(struct bpf_sock_ops *ops, struct sock_state *state)
{
	settle_callbacks(ops, state);
	if (!others_follow())
		stop_asking(ops, state, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/*
 * A flag of ours that is not set was cleared by others. The socket may be disconnected and used again, so its
 * flags become what they were before.
 */
static __always_inline void end_callbacks(struct bpf_sock_ops *ops, struct sock_state *state)
{
	if (state->callbacks & BPF_SOCK_OPS_ALL_CB_FLAGS & ~ops->bpf_sock_ops_cb_flags)
		count_event(EVENT_FLAGS_LOST);
	stop_asking(ops, state, BPF_SOCK_OPS_ALL_CB_FLAGS);
	state->callbacks = 0;
}
