/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads kernel memory by address, where no typed pointer leads: of the other end (peer.h), and of its limits
 * (memory.h).
 */
#pragma once

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/*
 * The word at an address that may be stale; 0 if it cannot be read. bpf_rdonly_cast (6.2) makes it one
 * instruction: struct timespec64 begins with a signed 64-bit number on every kernel.
 */
static __always_inline long load_long(__u64 address)
{
	long word = 0;

	if (bpf_rdonly_cast) {
		const struct timespec64 *at =
			bpf_rdonly_cast((void *)address, bpf_core_type_id_kernel(struct timespec64));

		return at->tv_sec;
	}
	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}
