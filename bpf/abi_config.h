/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Settings in force, and numbers that both sides use. A part of abi.h, which includes it. */
#pragma once

#include <linux/types.h>

/* Enums instead of macros: BTF has them, so bpf2go exports them to Go. */
enum abi {
	ABI_VERSION = 3,
	MAX_PORT_RANGES = 16,
	ATTACHMENT_KEY = 32, /* bytes: SHA-256 of network, container and interface */
	/*
	 * Length of arrays that are pinned. A new reason, result or event needs no new ABI until its array is
	 * full; then the assertions at the end of this file fail.
	 */
	REASON_ROOM = 48,
	RESULT_ROOM = 24,
	EVENT_ROOM = 32,
	/*
	 * A pod with hostNetwork has no network namespace cookie of its own. Its key is the id of its cgroup
	 * with this bit set. Cookies count from 1 and never reach it.
	 */
	HOST_POD_BIT = 63,
	/* A pod that holds more than this part of the sockhash gets no more of it, see share.h. */
	SHARE_DIVISOR = 4,
};

/* How much may wait for a reader, see window.h. */
enum window_number {
	FIRST_BYTES = 256 * 1024,
	FIRST_MESSAGES = 128,
	MESSAGE_BYTES = 1024, /* kernel memory of a message beside its bytes */
	WINDOW_MAX = 6,	      /* times four: 1 GiB, the most that maxBacklogBytes can be */
	POD_FLOWS = 64,	      /* flows to one pod that can have the whole window */
};

/* Inclusive on both sides, host byte order. */
struct port_range {
	__u16 first;
	__u16 last;
};

/* Why the observers run. 0: they do not. */
enum learn {
	LEARN_READERS = 1,  /* a direction waits for its reader's first receive call */
	LEARN_BLOCKING = 2, /* and readers that wait inside receive calls stay on TCP */
};

/* What to do where another program above a cgroup owns a sockhash, see docs/adr/0017. */
enum coexist {
	COEXIST_YIELD = 0,
	COEXIST_SHARE = 1,
};

/* What to do with ports of conntrack helpers, see docs/CONFIGURATION.md. */
enum helpers_mode {
	HELPERS_AVOID = 0,  /* they stay on TCP */
	HELPERS_IGNORE = 1, /* they are accelerated like others */
};

/* Which messages a tap copies. All fields 0 but snap_bytes: the redirected ones of all flows. */
struct tap_filter {
	__u64 netns;	  /* of either end; 0: any */
	__u32 snap_bytes; /* of each message at most, up to TAP_SNAP_MAX; 0: no tap */
	__u16 port;	  /* of the passive end, host byte order; 0: any */
	__u8 with_tcp;	  /* messages over TCP, too */
	__u8 pad;
};

/* The bits of config.hazards that the programs test. All are in pkg/hazard/table.go. */
enum asked_hazard {
	HAZARD_FIONREAD_REDIRECTED = 1 << 1,
	HAZARD_FIONREAD_TCP = 1 << 2,
};

/* config[0]: node-wide. The verdict reads the first 64 bytes for every message. */
struct config {
	__u32 abi;	/* always first, so that any version can read it */
	__u32 disabled; /* always second, so that any version can turn the kill switch on */
	__u32 epoch;	/* raised when a policy changes: each socket then asks again */
	__u32 max_backlog_bytes;
	__u32 max_backlog_messages;
	__u32 learn;	     /* enum learn */
	__u32 refresh_ticks; /* natRefreshSeconds, in TICKs; 0: off */
	__u32 coexist;	     /* enum coexist */
	struct tap_filter tap;
	__u64 disabled_ns;  /* CLOCK_MONOTONIC of the last change of `disabled` */
	__u64 tap_until_ns; /* CLOCK_MONOTONIC: a tap that has not renewed it by then is dead */
	__u64 epoch_ns;	    /* CLOCK_MONOTONIC of the last change of `epoch`, or of one up to 2 s before it */
	__u64 loaded_ns;    /* CLOCK_BOOTTIME at load */
	__u32 hazards;	    /* found by the probes on this kernel */
	__u32 guards;	    /* those of them that a guard cures */
	__u8 version[48];   /* of the program that loaded, NUL-terminated */
	__u32 nat_refresh_seconds;
	__u8 helpers_mode;  /* enum helpers_mode */
	__u8 helper_ranges; /* used entries of helper_ports */
	__u8 foreign;	    /* in some cgroup a sock_ops program of others runs after ours */
	__u8 pad[1];
	struct port_range helper_ports[MAX_PORT_RANGES]; /* of conntrack helpers in use on this node */
	__u64 room[8];
};

_Static_assert(sizeof(struct tap_filter) == 16, "tap_filter is an ABI");
_Static_assert(__builtin_offsetof(struct config, tap_until_ns) == 56,
	       "what is read for every message fills one cache line");
_Static_assert(sizeof(struct config) == 272, "config is an ABI");
