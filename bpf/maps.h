/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map, with who writes it and who reads it. Names are the pin names. Sizes of the first two are set at load. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "state.h"

/* Both ends of every flow. sock_ops inserts and may delete a socket that never had a peer; the verdict redirects into it. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct isn_pair);
	__type(value, __u64);
} sockets SEC(".maps");

/*
 * Rendezvous. Written by sock_ops, read by both programs. LRU because an entry whose socket closed after its
 * cgroup link had gone would otherwise stay: losing one costs a flow its acceleration, never a byte.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct isn_pair);
	__type(value, struct rendezvous);
} flows SEC(".maps");

/* Per-socket state: the only memory that the verdict writes for a message. Read by the flows iterator. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sock_state);
} states SEC(".maps");

/* What the programs of a few sockets had set of keepalive. Written and read by sock_ops. */
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

/* Sums by netns cookie. Entries are made and removed by user space; the programs only add. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct totals);
} totals SEC(".maps");

/*
 * What each pod holds of what all share. Entries are made and removed by user space; sock_ops and the verdict
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

/* What the observers are there for, enum learn; 0: they do not run. */
static __always_inline __u32 learning(void)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	return cfg ? cfg->learn : 0;
}

/* Does the kernel have this hazard, enum asked_hazard, and no guard cure it? */
static __always_inline bool open_hazard(const struct config *cfg, __u32 hazard)
{
	return cfg->hazards & ~cfg->guards & hazard;
}

/* The plugin's own records. No program touches it; it lives here because bpffs dies with the node, like all it describes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u8[ATTACHMENT_KEY]);
	__type(value, struct attachment);
} attachments SEC(".maps");

/* What happens seldom, by enum event. Every program adds; one per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_ROOM);
	__type(key, __u32);
	__type(value, __u64);
} events SEC(".maps");

/* The plugin's calls. No program touches it; user space adds under a lock of its own, see pkg/datapath/calls.go. */
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

/* Sockets whose peer was closed with redirected bytes unread. Written by sock_ops, read and written by the observers. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct isn_pair);
	__type(value, __u32);
} resets SEC(".maps");

/* Of calls that are being made. Written by the observers, taken by the guards of the same call. LRU: a task may die there. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct call_error);
} answers SEC(".maps");

/* Listening ports whose programs use what only TCP honours. Written by the observers, read by sock_ops. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct listening_port);
	__type(value, struct avoided);
} avoid SEC(".maps");

/* What earlier connections to a destination have gained. Written and read by sock_ops. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct destination);
	__type(value, struct history);
} history SEC(".maps");

/* What the verdict could not hand to a tap: no room in its ring. One per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tap_drops);
} tap_drops SEC(".maps");

/* The ring of the tap that listens, if one does: made by it, of the size that it wants, and gone with it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 4096);
	});
} tap_ring SEC(".maps");
