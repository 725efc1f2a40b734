/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map, with its writers and readers. The names are those of the pins. Sizes of the first two are set at
 * load.
 */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "state.h"

/* Both ends of every flow. sock_ops inserts and deletes sockets; the verdict redirects to them. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct isn_pair);
	__type(value, __u64);
} sockets SEC(".maps");

/*
 * Rendezvous entries. Written by sock_ops, read by both programs. LRU because an entry whose socket closed
 * after its cgroup link was gone would stay. A missing entry costs a flow its acceleration, never a byte.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct isn_pair);
	__type(value, struct rendezvous);
} flows SEC(".maps");

/* State of each socket: the only memory that the verdict writes for a message. Read by the iterators. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sock_state);
} states SEC(".maps");

/* Keepalive settings of programs, for the few sockets with probes of ours. Written and read by sock_ops. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct keepalive);
} keepalives SEC(".maps");

/* Policy by netns cookie. Written by user space under its lock, read by both programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

/* Sums by netns cookie. User space adds and removes entries; the programs only add to them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct totals);
} totals SEC(".maps");

/*
 * How much each pod holds of what all share. User space adds and removes entries; sock_ops and the verdict
 * add and subtract.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct share);
} shares SEC(".maps");

/* Node-wide switches and bounds. Written by user space, read for every message. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

/* Why the observers run, enum learn; 0: they do not. */
static __always_inline __u32 learning(void)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	return cfg ? cfg->learn : 0;
}

/* Does the kernel have this hazard (enum asked_hazard) without a guard that cures it? */
static __always_inline bool open_hazard(const struct config *cfg, __u32 hazard)
{
	return cfg->hazards & ~cfg->guards & hazard;
}

/* CNI ADDs, for user space alone. A map, because bpffs is emptied at a reboot, like all that it describes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u8[ATTACHMENT_KEY]);
	__type(value, struct attachment);
} attachments SEC(".maps");

/* Rare events, by enum event, one per CPU. Every program adds. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_ROOM);
	__type(key, __u32);
	__type(value, __u64);
} events SEC(".maps");

/* The plugin's calls, for user space alone, which has a lock for it, see pkg/datapath/calls.go. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 256);
	__type(key, struct call_key);
	__type(value, struct call_sums);
} calls SEC(".maps");

/* Tasks that are inside a splice by io_uring. Written and read by the guards. LRU: a task may die there. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} splicing SEC(".maps");

/*
 * Sockets whose peer was closed with unread redirected bytes. Written by sock_ops, read and written by
 * guards.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct isn_pair);
	__type(value, __u32);
} resets SEC(".maps");

/*
 * Errors of calls in progress, by task. Written by the observers, taken by the guards of the same call. LRU:
 * a task may die there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct call_error);
} answers SEC(".maps");

/*
 * Listening ports whose programs use something that only TCP supports. Written by guards, read by sock_ops.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct listening_port);
	__type(value, struct avoided);
} avoid SEC(".maps");

/* What earlier connections to a destination gained. Written by sock_ops and guards, read by sock_ops. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct destination);
	__type(value, struct history);
} history SEC(".maps");

/* Messages that did not fit into the tap's ring, one per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tap_drops);
} tap_drops SEC(".maps");

/*
 * The ring of the tap that listens. The tap makes it, of the size that it wants, and it is gone with the tap.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_RINGBUF);
			__uint(max_entries, 4096);
		});
} tap_ring SEC(".maps");
