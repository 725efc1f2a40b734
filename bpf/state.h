/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * State that only the programs use: of a connection, of a socket while it lives, and of a call. User space
 * creates the maps, and only tests read fields. But the maps are pinned and an upgrade keeps their contents,
 * so a change of size, order or meaning is a new ABI_VERSION, see abi.h.
 */
#pragma once

#include <linux/types.h>

#include "abi.h"

/*
 * flows[key of the active end]: where the two ends of one connection meet. Addresses are hints, see peer.h.
 */
struct rendezvous {
	__u64 active_sk;
	__u64 passive_sk;   /* written last by the end that joins; not 0: both ends are in the sockhash */
	__u64 active_state; /* of each end's struct sock_state */
	__u64 passive_state;
	__u64 active_netns;
	__u64 passive_netns;
	__u16 port;    /* of the passive end, host byte order */
	__u8 kept_out; /* enum result: why the passive end, on this node, did not join */
	__u8 ends;     /* END_OWN and END_PEER as the active end has them */
	__u8 pad[4];
};

/*
 * What a socket carries while it lives. The kernel frees it with the socket.
 *
 * Fields are grouped by who writes them. The programs of the first four groups run under the socket's lock,
 * so they see each other's writes. Two kinds of programs read the state without the lock: those of the other
 * end (peer.h), and list_flows.
 */
struct sock_state {
	/* Written once, by sock_ops at the handshake. Lock: the socket's. */
	struct isn_pair self; /* own key in the sockhash; mirrored, it is the other end's */
	__u64 netns;	      /* netns cookie, or the key of a pod with hostNetwork */
	__u64 established_ns; /* CLOCK_MONOTONIC */
	__u8 role;	      /* enum role */

	/* Written by sock_ops, and by the iterator that evicts sockets. Lock: the socket's. */
	__u8 left;	/* it has left the sockhash for good and is a TCP socket like any other */
	__u8 callbacks; /* callback flags that we have set and nobody else, see callbacks.h */

	/* Written by sock_ops and by the verdict. Lock: the socket's. */
	__u8 mode;	      /* enum mode */
	__u8 reason;	      /* enum reason, while mode is MODE_TCP */
	__u8 ends;	      /* enum end_flag */
	__u16 port;	      /* of the passive end, host byte order */
	__u64 peer_sk;	      /* address of the other end's socket, a hint, see peer.h; 0: unknown */
	__u64 peer_state;     /* address of the other end's struct sock_state, a hint, too */
	__u64 peer_netns;     /* netns of the other end */
	__u32 epoch;	      /* config.epoch when the policies were last asked */
	__u32 sent_by_tcp_at; /* TICKs when it last sent over TCP, or was established */
	__u8 window;	      /* how often the window has grown, see window.h */

	/* Written by the verdict. Lock: the socket's. */
	__u8 denied;		   /* the policy of this epoch says no */
	__u8 losses;		   /* messages that lost by being redirected, see contended.h and gain.h */
	__u8 left_to_tcp;	   /* small messages that are still to use TCP, see contended.h */
	__u32 burst_messages;	   /* redirected since the peer's queue was last seen empty */
	__u64 redirected_bytes;	   /* read by the other end together with the next field */
	__u64 redirected_messages; /* ditto */
	__u64 tcp_messages;
	__u32 redirected_at; /* TICKs when it last sent by redirect */
	__u32 backlog_high;  /* bytes: the most that waited for the peer, with what it was sent then */
	__u32 last_progress; /* peer_progress when the peer's lock was last found held */
	__u32 mixed_seq;     /* TCP sequence number of a change to TCP, see wake.h; 0: none */

	/*
	 * Written by the guards observe_receive, observe_send, receive, send and refuse_splice_lsm. Lock:
	 * none, so everybody writes them by atomic instructions only.
	 */
	__u32 habits; /* enum habit, by sock_ops and the verdict, too; read together with the next field */
	__u32 reader; /* enum reader */
};

/* keepalives[socket]: the program's settings, while keepalive probes of ours run, see wake.h. */
struct keepalive {
	__u32 on;
	__u32 idle_seconds;
	__u32 interval_seconds;
	__u32 user_timeout_ms;
};

/*
 * What the first receive call showed. It is set once, by compare and swap, because only one of two things may
 * follow: the peer may redirect to this socket (READY), or this socket may leave (PLAIN). A peer may redirect
 * to an event loop before the call; then it sets HABIT_REDIRECTS_EARLY first, and this socket stays.
 */
enum reader {
	READER_UNKNOWN = 0,
	READER_READY = 1,
	READER_PLAIN = 2,
};

/*
 * resets[key of a socket whose peer was closed with unread redirected bytes]: did a call of its program fail
 * yet?
 */
enum reset {
	RESET_PENDING = 0,
	RESET_REPORTED = 1,
};

/* answers[task]: the error of the call that the task is in, from the observer of the call to its guard. */
struct call_error {
	__u64 sk;    /* whose call it is */
	__u32 error; /* errno.h, positive */
	__u32 pad;
};

_Static_assert(sizeof(struct rendezvous) == 56, "flow is an ABI");
_Static_assert(sizeof(struct sock_state) == 120,
	       "sock_state is an ABI; with the kernel's 72 bytes before it, it fills 192");
_Static_assert(sizeof(struct keepalive) == 16, "keepalive is an ABI");
_Static_assert(sizeof(struct call_error) == 16, "call_error is an ABI");
