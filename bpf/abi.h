/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that crosses between the programs and user space, together with abi_config.h and abi_tap.h,
 * which it includes. bpf2go makes the Go types and constants from here, so Go has no second copy. Any change
 * of size, order or meaning is a new ABI_VERSION: pinned maps of another version are refused, never
 * reinterpreted.
 */
#pragma once

#include <linux/types.h>

#include "abi_config.h"

/*
 * One end of a connection, named by the two initial sequence numbers as that end sees them. NAT keeps them.
 */
struct isn_pair {
	__u32 own;
	__u32 peer;
};

enum role {
	ROLE_ACTIVE = 0,  /* called connect(2) */
	ROLE_PASSIVE = 1, /* came out of accept(2) */
	ROLE_MAX,
};

/* How the bytes that a socket sends travel now. */
enum mode {
	MODE_PENDING = 0, /* nothing sent yet */
	MODE_REDIRECT = 1,
	MODE_TCP = 2,
};

/* Why a socket's bytes use TCP. Each reason is a metric label and a row in docs/DATAPATH.md. */
enum reason {
	REASON_NONE = 0,
	REASON_NO_PEER = 1,	     /* the other end has not joined (yet), or is gone */
	REASON_UNREAD = 2,	     /* the peer's program has not read all bytes that were sent over TCP */
	REASON_BACKLOG_BYTES = 3,    /* the reader is behind by more than maxBacklogBytes */
	REASON_BACKLOG_MESSAGES = 4, /* ... or by more than maxBacklogMessages */
	REASON_RCVLOWAT = 5,	     /* the reader set SO_RCVLOWAT, which only TCP honours */
	REASON_STATE = 6,	     /* neither ESTABLISHED nor CLOSE_WAIT: TCP returns the right error */
	REASON_ULP = 7,		     /* an upper-layer protocol (kTLS) owns the stream */
	REASON_DISABLED = 8,	     /* the kill switch is on */
	REASON_POLICY = 9,	     /* peers or ports of an endpoint changed and now say no */
	REASON_PEER_LEFT = 10,	     /* the redirect found no socket: the peer is closing */
	REASON_LEARNING = 11, /* guarded: the reader has not called receive yet, so its flags are not known */
	REASON_WAITALL = 12,  /* the reader uses MSG_WAITALL, which only TCP honours */
	REASON_OOB = 13,      /* the sender uses MSG_OOB, which only TCP honours */
	REASON_INQ = 14,      /* the reader set TCP_INQ, which only TCP supports */
	REASON_ZEROCOPY = 15, /* the sender set SO_ZEROCOPY, whose completions only TCP reports */
	REASON_BLOCKING = 16, /* guarded: the reader waits inside receive calls, which only TCP does right */
	REASON_DISCARD = 17,  /* the reader uses MSG_TRUNC, which only TCP honours */
	REASON_OPTION = 18,   /* timestamps, SO_PEEK_OFF, a socket filter: only TCP honours them */
	REASON_CONTENDED = 19, /* small messages would wait for the lock of a reader on another CPU */
	REASON_REFRESH = 20,   /* natRefreshSeconds: one message, so that conntrack and IPVS see it */
	REASON_MEMORY = 21,    /* the node or the reader's memory cgroup is short of memory for sockets */
	REASON_SHUTDOWN =
		22,	     /* the reader has shut down receiving: TCP resets the connection of the sender */
	REASON_EARLY = 23,   /* a receive call may have begun before the handshake ended */
	REASON_LEAVING = 24, /* the other end leaves the sockhash, so this one does, too */
	REASON_CORKED = 25,  /* leaves: TCP_CORK, with which TCP joins what redirects deliver in pieces */
	REASON_PAGES = 26,   /* leaves: sendfile(2), whose pages TCP sends and a redirect copies */
	REASON_SMALL = 27,   /* leaves: a stream of small messages one way, which TCP joins */
	REASON_SPLICE = 28,  /* the reader uses splice(2), which finds only bytes sent over TCP */
	REASON_MAX,
};

/* The result of pairing at the handshake. Each is a metric label. */
enum result {
	RESULT_JOINED = 0,    /* both ends are known: the flow may be redirected */
	RESULT_REMOTE = 1,    /* the other end is not in an endpoint of this node */
	RESULT_DENIED = 2,    /* peers or ports of an endpoint say no */
	RESULT_COLLISION = 3, /* another flow has the same two sequence numbers */
	RESULT_MAP_FULL = 4,  /* maxSockets reached */
	RESULT_REPAIR = 5,    /* TCP_REPAIR: the process chose its sequence numbers */
	RESULT_MPTCP = 6,
	RESULT_ULP = 7,
	RESULT_ERROR = 8,     /* no memory, or the socket is in another sockmap */
	RESULT_OPTION = 9,    /* a socket option that only TCP honours was set before: SO_ZEROCOPY, TCP_INQ */
	RESULT_AVOIDED = 10,  /* an earlier flow on this route used something that only TCP supports */
	RESULT_BLOCKING = 11, /* guarded: the client's descriptor is blocking, see REASON_BLOCKING */
	RESULT_SHORT = 12,    /* the last connections to this destination were short, see struct history */
	RESULT_SHARE = 13,    /* the pod has its share of the sockhash, which is more than half full */
	RESULT_HELPER = 14,   /* a conntrack helper of this node rewrites the payload of this port */
	RESULT_FOREIGN = 15,  /* another sock_ops program clears our callbacks, or owns a sockhash */
	RESULT_STREAM = 16,   /* the last connections to this destination were streams that gain nothing */
	RESULT_MAX,
};

enum peers {
	PEERS_NODE = 0,
	PEERS_NAMESPACE = 1,
	PEERS_POD = 2,
};

/* endpoints[netns cookie]: the policy of one network namespace, or of one pod with hostNetwork. */
struct endpoint {
	__u64 group;	 /* equal groups are one namespace for PEERS_NAMESPACE */
	__u8 accelerate; /* 0: opted out; registered so that no other link takes it */
	__u8 peers;	 /* enum peers */
	__u8 includes;	 /* used entries of include; 0: every port */
	__u8 excludes;	 /* used entries of exclude */
	__u8 foreign;	 /* another sock_ops program runs last in its cgroup and can clear our callbacks */
	__u8 pad[3];
	struct port_range include[MAX_PORT_RANGES];
	struct port_range exclude[MAX_PORT_RANGES];
	__u64 epoch; /* config.epoch at which live sockets ask again; only user space uses it */
	__u64 room[1];
};

/*
 * shares[netns cookie]: how much one pod holds of what all pods share. User space adds and removes entries
 * with the endpoint; key 0 is for all namespaces without one. The programs add and subtract.
 */
struct share {
	__s32 sockets; /* in the sockhash */
	__u32 pad;
	__s64 granted_bytes; /* by which the windows of flows to this pod have grown: window.h */
	__u64 room[2];
};

/*
 * The unit of time of struct sock_state and config.refresh_ticks: CLOCK_MONOTONIC >> TICK_SHIFT, 1.05 ms. It
 * wraps after 52 days.
 */
enum tick {
	TICK_SHIFT = 20,
};

/*
 * avoid[listening port of a namespace]: later flows to it start and stay on TCP for AVOID_NS. Each time that
 * this is over and a guard sees the same again, the time doubles, because most likely the same program
 * listens there.
 */
struct listening_port {
	__u64 netns;
	__u16 port;
	__u16 pad[3];
};

struct avoided {
	__u64 noted_ns; /* CLOCK_MONOTONIC: of the last time */
	__u32 habits;	/* enum habit */
	__u32 again;	/* how often it was noted after it was over, at most AVOID_AGAIN_MAX */
};

enum avoid_time {
	AVOID_SECONDS = 600,
	AVOID_AGAIN_MAX = 6, /* 64 times AVOID_NS: more than ten hours */
};

#define AVOID_NS (AVOID_SECONDS * 1000000000ULL)

/* A destination as the active end sees it: before any translation. */
struct destination {
	__u64 netns;   /* of the active end */
	__u8 addr[16]; /* network order, v4 in the first four bytes */
	__u16 port;    /* network order */
	__u16 family;
	__u32 pad;
};

/*
 * history[destination]: what its connections have gained. Taking a socket into the sockhash costs more than a
 * few messages save. After FRUITLESS_MAX connections in a row that were not worth it, the next ones stay on
 * TCP, except for one in each LET_IN_EVERY_NS, and up to LET_IN_AT_ONCE together after a pause. The first
 * that is worth it ends that. After a program used there something that only TCP supports, none is let in for
 * AVOID_NS.
 */
struct history {
	__u32 fruitless; /* connections in a row */
	__u8 why;	 /* enum result of the last one */
	__u8 avoided;	 /* 1: none is let in until rested_ns, after MSG_OOB or splice(2) there */
	__u8 pad[2];
	__u64 rested_ns; /* coarse CLOCK_MONOTONIC: when LET_IN_AT_ONCE may be let in again */
};

/* totals[netns cookie], one per CPU. Key 0 (unregistered) is for sockets without a registered endpoint. */
struct totals {
	__u64 redirected_bytes; /* these four: of sockets that closed */
	__u64 redirected_messages;
	__u64 tcp_bytes;
	__u64 tcp_messages;
	__u64 backlog_high; /* bytes: the most that waited for one reader here; a maximum, of senders that
			       closed */
	__u64 flows[ROLE_MAX * RESULT_ROOM]; /* role * RESULT_ROOM + result */
	__u64 fallbacks[REASON_ROOM];
	__u64 room[3];
};

/* events[]: rare events, counted for the node. Each is a metric, or a label of one. */
enum event {
	EVENT_RENDEZVOUS_LOST = 0, /* an end found its rendezvous entry missing while both ends live */
	EVENT_SPLICE_REFUSED = 1,
	EVENT_RECEIVE_ANSWERED = 2,
	EVENT_SEND_ANSWERED = 3,
	EVENT_MAPPING_REFUSED = 4,
	EVENT_HABIT_NOTED = 5,	  /* MSG_WAITALL, MSG_TRUNC, MSG_OOB, splice(2) */
	EVENT_BLOCKING_NOTED = 6, /* a reader that waits inside receive calls */
	EVENT_OPTION_REFUSED = 7,
	EVENT_ANSWER_CORRECTED = 8, /* TCP_INFO, TCP_NOTSENT_LOWAT */
	EVENT_FLAGS_LOST = 9,	    /* another program has switched our callbacks off */
	EVENT_READER_WOKEN = 10,    /* a reader that may have missed an edge was woken */
	EVENT_WINDOW_REFUSED = 11,  /* the windows of the pod's flows may not grow further */
	EVENT_INQ_CORRECTED = 12,   /* FIONREAD */
	EVENT_MAX,
};

/*
 * Upper bounds of the buckets of struct call_sums are CALL_FIRST_US << i. Calls that took longer are in no
 * bucket.
 */
enum call_bucket {
	CALL_BUCKETS = 14,
	CALL_FIRST_US = 512,
};

/* calls[command and code]: how often calls of the plugin ended so, and how long they took. */
struct call_key {
	__u32 command;	/* the order in pkg/datapath/calls.go */
	__u32 code;	/* of the CNI error; 0: none */
	__u32 withheld; /* 1: the runtime got no error */
};

struct call_sums {
	__u64 calls;
	__u64 ns;
	__u64 buckets[CALL_BUCKETS]; /* calls of this length only, not "up to" it */
};

#include "abi_tap.h"

/* attachments[SHA-256]: one CNI ADD: what it made, or why it made nothing. Only user space uses it. */
struct attachment {
	__u64 netns_cookie; /* 0: no endpoint */
	__u64 netns_dev;
	__u64 netns_inode;
	__u64 mount_ns;			  /* inode of the mount namespace in which netns_path was seen */
	__u64 cgroup_id;		  /* 0: no link */
	__u64 created_ns;		  /* CLOCK_BOOTTIME */
	__u8 network_key[ATTACHMENT_KEY]; /* SHA-256 of the whole network name */
	__u8 network[128];
	__u8 container_id[128];
	__u8 ifname[16];
	__u8 pod_namespace[64];
	__u8 pod_name[256];
	__u8 netns_path[256];
	__u8 cgroup_source[32];
	__u8 declined[256]; /* why it is not accelerated, in words; empty: it is */
	__u32 reason;	    /* why it is not accelerated, see pkg/decline; 0: it is, or not known */
	__u8 has_policy;    /* 0: added by ABI 1 */
	__u8 pad[3];
	struct endpoint policy; /* of this ADD; its endpoint's follows from all its attachments */
	__u64 container_cgroup; /* declined: id of the container's cgroup; 0: unknown */
	__u64 host_netns;	/* netns cookie of the host, for a pod with hostNetwork; 0: it has its own */
	__u64 room[5];
};

/* Why a socket that is to leave stays. */
enum stays {
	STAYS_NOT = 0,
	STAYS_NO_PEER = 1, /* it has not met the other end */
	STAYS_CALL = 2,	   /* a call of its program is inside the kernel's redirecting code */
	STAYS_OLD = 3,	   /* its verdict is of a version that cannot commit to TCP */
	STAYS_UNREAD = 4,  /* its program has not read what was redirected to it */
	STAYS_PROBED = 5,  /* keepalive probes of ours run */
	STAYS_PEER = 6,	   /* the other end has not committed to TCP */
	STAYS_MAX,
};

/* Bits of flow_record.ends and of struct sock_state. */
enum end_flag {
	END_OWN = 1, /* has been registered: an endpoint that was deleted permits nothing */
	END_PEER = 2,
	END_COUNTED = 4,    /* in shares[netns].sockets */
	END_PROBED = 8,	    /* keepalive probes of ours run, see wake.h */
	END_USED_HALF = 16, /* what waited for the peer has been more than half of the window, see window.h */
	END_CLOSED = 32,    /* the connection has ended and is in the totals; the state stays, see on_close */
	END_MEMORY_PLENTY = 128,     /* the last look at memory found plenty, see memory.h */
	END_SHARE_UNREGISTERED = 64, /* it entered without a share of its own and counts in shares[0] */
};

/* Bits of avoided.habits and sock_state.habits: calls of a program that only TCP handles right. */
enum habit {
	HABIT_WAITALL = 1,
	HABIT_OOB = 2,		    /* as a sender */
	HABIT_BLOCKS = 4,	    /* waits inside receive calls */
	HABIT_DISCARD = 8,	    /* MSG_TRUNC */
	HABIT_REDIRECTS_EARLY = 16, /* sender: it redirects before the reader's first receive call */
	HABIT_CAN_COMMIT = 32,	    /* sender: its verdict respects HABIT_COMMITTED, see commit.h */
	HABIT_COMMITTED = 64,	    /* sender: committed to TCP, it never redirects again */
	HABIT_SPLICE = 128,
	HABIT_SPLICE_REFUSED = 256, /* refused, and it has not called receive since */
};

/*
 * One socket as the iterators of list.bpf.c write it. Addresses in network order, v4 in the first four bytes.
 */
struct flow_record {
	struct isn_pair self;
	struct isn_pair peer;
	__u64 cookie;
	__u64 netns;
	__u64 peer_netns;
	__u64 redirected_bytes;
	__u64 redirected_messages;
	__u64 tcp_bytes;
	__u64 tcp_messages;
	__u64 established_ns;
	__u32 backlog_bytes; /* received and not yet read, as the kernel charges it */
	__u32 backlog_high;  /* of the peer, see struct sock_state */
	__u16 family;
	__u16 local_port;
	__u16 remote_port;
	__u8 role;
	__u8 mode;
	__u8 reason;
	__u8 joined;
	__u8 state;  /* TCP state */
	__u8 left;   /* see struct sock_state */
	__u8 ends;   /* enum end_flag */
	__u8 window; /* how often it has grown: window.h */
	__u8 pad[2];
	__u8 local_addr[16];
	__u8 remote_addr[16];
	__u64 room[4];
};

_Static_assert(REASON_MAX <= REASON_ROOM && RESULT_MAX <= RESULT_ROOM && EVENT_MAX <= EVENT_ROOM,
	       "no room left: a new ABI");
_Static_assert(sizeof(struct isn_pair) == 8, "keys are hashed byte by byte: no padding");
_Static_assert(sizeof(struct endpoint) == 160, "endpoint is an ABI");
_Static_assert(sizeof(struct share) == 32, "share is an ABI");
_Static_assert(sizeof(struct listening_port) == 16, "keys are hashed byte by byte: no padding");
_Static_assert(sizeof(struct avoided) == 16, "avoided is an ABI");
_Static_assert(sizeof(struct destination) == 32, "keys are hashed byte by byte: no padding");
_Static_assert(sizeof(struct history) == 16, "history is an ABI");
_Static_assert(sizeof(struct totals) == 832, "totals is an ABI");
_Static_assert(sizeof(struct call_key) == 12, "keys are hashed byte by byte: no padding");
_Static_assert(sizeof(struct call_sums) == 128, "call_sums is an ABI");
_Static_assert(sizeof(struct attachment) == 1440, "attachment is an ABI");
_Static_assert(sizeof(struct flow_record) == 168, "flow_record is an ABI");
