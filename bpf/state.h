/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs keep for themselves: of a connection, of a socket while it lives, and of a call. User
 * space creates the maps and reads no field but in tests. The maps are pinned, and an upgrade goes on with
 * what is in them: a change of size, order or meaning is a new ABI_VERSION, too, see abi.h.
 */
#pragma once

#include <linux/types.h>

#include "abi.h"

/*
 * flows[active end's pair]: where the two ends of one connection meet. Addresses are hints, never
 * dereferenced.
 */
struct flow {
	__u64 active_sk;
	__u64 passive_sk; /* written last by the end that joins: not 0 means that both ends are in the sockhash */
	__u64 active_state; /* of each end's struct sock_state, a hint like the above */
	__u64 passive_state;
	__u64 active_netns;
	__u64 passive_netns;
	__u16 port; /* of the passive end, host byte order */
	__u8 kept_out; /* enum result: why the passive end, which is here, did not join */
	__u8 ends;     /* enum known_end, END_OWN for the active end: who was registered at the handshake */
	__u8 pad[4];
};

/*
 * What a socket carries while it lives. The kernel frees it with the socket. The verdict and sock_ops write
 * it under the socket's lock; only habits and reader are written by others (the observers), atomically.
 */
struct sock_state {
	struct isn_pair self; /* own key in the sockhash; mirrored, it is the other end's */
	__u64 peer_sk;	      /* kernel address of the other end, 0 until known; only ever read fault-safely */
	__u64 peer_state;     /* kernel address of the other end's struct sock_state, likewise */
	__u64 netns;
	__u64 peer_netns;
	__u64 redirected_bytes;
	__u64 redirected_messages;
	__u64 tcp_messages;
	__u64 established_ns; /* CLOCK_MONOTONIC */
	__u32 epoch;
	__u32 burst_messages; /* redirected since none was seen waiting for the peer: at most so many wait */
	__u32 redirected_at;  /* TICKs: when it last sent by redirect */
	__u32 sent_by_tcp_at; /* TICKs: when it last sent by TCP, or was established */
	__u16 port;	      /* of the passive end, host byte order */
	__u8 role;	      /* enum role */
	__u8 mode;	      /* enum mode */
	__u8 reason;	      /* enum reason, while mode is MODE_TCP */
	__u8 denied;	      /* the policy of this epoch says no */
	__u8 left;	      /* it has left the sockhash for good and is a TCP socket like any other */
	__u8 window;	      /* how often the bounds of what may wait for the peer have grown, see window.h */
	__u32 habits;	      /* enum habit, what the guards saw this socket's program do */
	__u32 reader;	      /* enum reader */
	__u32 backlog_high;   /* bytes: the most that waited for the peer, with what it was sent then */
	__u32 heard;	      /* what had come from the peer when its lock was found held, see REASON_CONTENDED */
	__u8 losses;	      /* messages that lost by being redirected, see contended.h and gain.h */
	__u8 left_to_tcp;     /* small messages that are still to go by TCP */
	__u8 callbacks;	      /* BPF_SOCK_OPS_*_CB_FLAG that nobody had asked for before, see callbacks.h */
	__u8 ends;	      /* enum known_end: which namespaces have been registered, and more */
	__u32 mixed_seq;      /* TCP sequence number of a change to TCP with redirected bytes unread; 0: never */
};

/* keepalives[socket]: what its program had set, while keepalive probes of ours run, see wake.h. */
struct keepalive {
	__u32 on;
	__u32 idle_seconds;
	__u32 interval_seconds;
	__u32 user_timeout_ms;
};

enum known_end {
	END_OWN = 1,  /* was registered once: an endpoint that is no more permits nothing */
	END_PEER = 2,
	END_COUNTED = 4, /* in shares[netns].sockets */
	END_PROBED = 8,	 /* keepalive probes of ours run, see wake.h */
	END_USED_HALF = 16, /* what waited for the peer has been more than half of the window, see window.h */
	END_CLOSED = 32, /* the connection has ended and is in the totals; the state stays, see on_close */
	END_AMPLE = 128, /* there was much more memory than a message needs at the last look, see memory.h */
	END_GATHERED = 64, /* its namespace had no share when it entered: it is counted in shares[0] */
};

/*
 * What the first receive call showed. It is decided once, by compare and swap, because it answers two
 * questions that must not both be answered yes: may the peer redirect to this socket (READY), and may this
 * socket leave (PLAIN)? A peer may redirect before the call, too, to an event loop; then it says
 * HABIT_TRUSTS, and this socket stays.
 */
enum reader {
	READER_UNKNOWN = 0,
	READER_READY = 1,
	READER_PLAIN = 2,
};

/* What the observers see of a program's calls that only TCP does right. */
enum habit {
	HABIT_WAITALL = 1,
	HABIT_OOB = 2,	   /* as a sender */
	HABIT_BLOCKS = 4,  /* waits inside receive calls */
	HABIT_DISCARD = 8, /* MSG_TRUNC */
	HABIT_TRUSTS = 16, /* as a sender: redirects to a reader that has not called receive yet */
	HABIT_KEEPS_OATHS = 32, /* as a sender: its verdict asks for HABIT_SWORN, see oath.h */
	HABIT_SWORN = 64, /* as a sender: it never redirects again */
	HABIT_SPLICE = 128,
	HABIT_SPLICE_REFUSED = 256, /* and has not called receive since: it may not fall back to that */
};

/* resets[pair of a socket whose peer was closed with redirected bytes unread]: has its program been told? */
enum reset {
	RESET_UNTOLD = 0,
	RESET_TOLD = 1,
};

/*
 * answers[task]: what the call that it is in is to answer, from the observer of that call to the guard of it.
 */
struct task_answer {
	__u64 sk; /* whose call it is */
	__u32 error; /* errno.h, positive */
	__u32 pad;
};

_Static_assert(sizeof(struct flow) == 56, "flow is an ABI");
_Static_assert(sizeof(struct sock_state) == 120,
	       "sock_state is an ABI; with the kernel's 72 bytes before it, it fills 192");
_Static_assert(sizeof(struct keepalive) == 16, "keepalive is an ABI");
_Static_assert(sizeof(struct task_answer) == 16, "task_answer is an ABI");
