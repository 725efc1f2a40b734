/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * May a program send from these addresses? Some kernels answer a send from memory that is not mapped with 0 bytes and no error where
 * the socket is in a sockmap, upon which a program may try for ever.
 */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* The main thread's stack grows down on demand: below its start an address may be good although nothing is mapped yet. */
#define STACK_ROOM (1UL << 30)

/* Above these, an address may carry a tag that is no part of it. */
#define ADDRESS_BITS ((1UL << 56) - 1)

/* A callback of bpf_find_vma. */
static long note_access(struct task_struct *task __attribute__((unused)), struct vm_area_struct *vma, bool *accessible)
{
	*accessible = !bpf_core_field_exists(vma->vm_flags) || (vma->vm_flags & VM_ACCESS_FLAGS);
	return 0;
}

/* Memory that is mapped and not there now (swapped out, of a file) cannot be read here, and is good. */
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
 * The last byte of a message in one piece: an address that is no address, and a length that is too long, both show there. To look
 * costs each send of the node's redirected sockets some 200 instructions, so it is one look. Kernels before 6.4 have no message in one
 * piece, and answer rightly.
 */
static __always_inline bool sends_from_unmapped(const struct iov_iter *from)
{
	if (!bpf_core_field_exists(from->__ubuf_iovec))
		return false;
	if (from->iter_type != bpf_core_enum_value(enum iter_type, ITER_UBUF) || !from->count)
		return false;
	return is_unmapped((unsigned long)from->ubuf + from->iov_offset + from->count - 1);
}
