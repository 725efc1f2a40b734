/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the key of one end says of the other's, and of the entry where both meet. */
#pragma once

#include "abi.h"

static __always_inline struct isn_pair mirrored(struct isn_pair pair)
{
	return (struct isn_pair){ .own = pair.peer, .peer = pair.own };
}

/* The key of this end's connection in flows: the active end's. */
static __always_inline struct isn_pair flow_key(const struct sock_state *state)
{
	return state->role == ROLE_ACTIVE ? state->self : mirrored(state->self);
}
