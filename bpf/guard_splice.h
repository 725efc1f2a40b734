/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The programs of the guard of splice(2), see docs/adr/0019: a part of guard.bpf.c. */
#pragma once

#include <stdbool.h>

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "guard_habits.h"
#include "maps.h"
#include "socket.h"

static __always_inline bool is_redirect_socket(struct file *file)
{
	struct socket *sock = BPF_CORE_READ(file, private_data);
	struct sock *sk = BPF_CORE_READ(sock, sk);

	return (unsigned long)BPF_CORE_READ(sk, sk_user_data) & SK_USER_DATA_PSOCK;
}

static __always_inline struct file *file_of(unsigned int fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = task->files->fdt;
	struct file **files, *file = NULL;

	if (fd >= table->max_fds)
		return NULL;
	files = table->fd;
	bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file;
}

/*
 * The programs return a long: an int would leave the upper half zero, and the caller would see a huge length.
 * The loader sets the attach target, whose name depends on the architecture.
 */
SEC("fmod_ret/splice")
long refuse_splice(unsigned long long *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	struct file *file = file_of(BPF_CORE_READ(regs, PARM1_REG));

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	return counted(is_redirect_socket(file) ? -EINVAL : 0, EVENT_SPLICE_REFUSED);
}

static __always_inline bool in_ring_splice(void)
{
	__u64 task = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&splicing, &task);
}

/*
 * Does this task splice? sendfile(2) to a pipe splices, too. read(2), the most frequent call, is tested
 * first. io_uring has threads without a system call of their own.
 */
static __always_inline bool splices(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	long call = regs->SYSCALL_NR_REG;

	if (call == __NR_read)
		return false;
	return call == __NR_splice || call == __NR_sendfile || in_ring_splice();
}

/* The socket behind a file; NULL: it is none, or in no sockmap. */
static __always_inline struct sock *redirect_socket_of(struct file *file)
{
	struct socket *sock;

	if ((file->f_inode->i_mode & S_IFMT) != S_IFSOCK)
		return NULL;
	sock = bpf_sock_from_file(file);
	return sock && in_sockmap(sock->sk) ? sock->sk : NULL;
}

/* Runs on each read and write of a file on this node, so it returns early. */
SEC("fmod_ret/security_file_permission")
long refuse_splice_file(unsigned long long *ctx)
{
	int mask = ctx[1];

	if (!(mask & MAY_READ) || !redirect_socket_of((struct file *)ctx[0]))
		return 0;
	return counted(splices() ? -EINVAL : 0, EVENT_SPLICE_REFUSED);
}

/*
 * Can the program splice after all? Its peer sees HABIT_SPLICE and uses TCP from now on. It can if nothing
 * that was redirected waits, and no send that began before is under way.
 */
static __always_inline bool has_only_tcp(struct sock *sk, const struct sock_state *state)
{
	return learning() && !redirected_bytes_wait(sk) && !calls_inside((struct sock *)state->peer_sk);
}

/*
 * A program that was refused may read instead, and stays accelerated. One that splices again is noted, and
 * may splice as soon as it is possible. One that closes the socket after a refusal is noted by on_close.
 */
static __always_inline bool splices_again(struct sock *sk, struct sock_state *state)
{
	if (!(__sync_fetch_and_or(&state->habits, HABIT_SPLICE_REFUSED) & HABIT_SPLICE_REFUSED))
		return false;
	note_habits(sk, state, HABIT_SPLICE);
	return has_only_tcp(sk, state);
}

/* The same as an LSM program, which may look up socket storage. */
SEC("lsm/file_permission")
int refuse_splice_lsm(unsigned long long *ctx)
{
	struct sock_state *state;
	int mask = ctx[1];
	struct sock *sk;

	if (!(mask & MAY_READ))
		return 0;
	sk = redirect_socket_of((struct file *)ctx[0]);
	if (!sk || !splices())
		return 0;
	state = bpf_sk_storage_get(&states, sk, NULL, 0);
	if (state && splices_again(sk, state))
		return 0;
	return counted(-EINVAL, EVENT_SPLICE_REFUSED);
}

/* io_uring splices without the system call, in the task or in a worker thread. */
SEC("fentry/io_splice")
int enter_ring_splice(void *ctx __attribute__((unused)))
{
	__u64 task = bpf_get_current_pid_tgid();
	__u32 yes = 1;

	bpf_map_update_elem(&splicing, &task, &yes, BPF_ANY);
	return 0;
}

SEC("fexit/io_splice")
int leave_ring_splice(void *ctx __attribute__((unused)))
{
	__u64 task = bpf_get_current_pid_tgid();

	bpf_map_delete_elem(&splicing, &task);
	return 0;
}
