/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * May a program send from these addresses? On some kernels a send from unmapped memory returns 0 and no error
 * if the socket is in a sockmap, and a program may retry for ever.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* The main thread's stack grows on demand: below its start an unmapped address may be good. */
#define STACK_ROOM (1UL << 30)

/* The bits above may be a tag that is no part of the address. */
#define ADDRESS_BITS ((1UL << 56) - 1)

/* A callback of bpf_find_vma. */
static long note_access(struct task_struct *task __attribute__((unused)), struct vm_area_struct *vma,
			bool *accessible)
{
	*accessible = !bpf_core_field_exists(vma->vm_flags) || (vma->vm_flags & VM_ACCESS_FLAGS);
	return 0;
}

/* Mapped memory that is not present (swapped out, part of a file) cannot be read here, but is good. */
static __always_inline bool is_unmapped(unsigned long address)
{
	struct task_struct *task;
	struct mm_struct *mm;
	bool accessible = true;
	long err;
	char byte;

	if (!bpf_probe_read_user(&byte, sizeof(byte), (void *)address))
		return false;
	task = bpf_get_current_task_btf();
	mm = task->mm;
	if (!mm || mm->start_stack - address < STACK_ROOM)
		return false;
	err = bpf_find_vma(task, address & ADDRESS_BITS, note_access, &accessible, 0);
	return err == -ENOENT || (!err && !accessible);
}

/*
 * Looks at the last byte of a message in one piece: it reveals a bad address and a length that is too long.
 * One look costs each send of a redirected socket about 200 instructions. Kernels before 6.4 have no messages
 * in one piece, and return the right error.
 */
static __always_inline bool sends_from_unmapped(const struct iov_iter *from)
{
	if (!bpf_core_field_exists(from->__ubuf_iovec))
		return false;
	if (from->iter_type != bpf_core_enum_value(enum iter_type, ITER_UBUF) || !from->count)
		return false;
	return is_unmapped((unsigned long)from->ubuf + from->iov_offset + from->count - 1);
}
