// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Guards: they make a redirected socket behave where the kernel's own code for it does not.
 *
 *   observe_receive      how a program receives: without waiting, waiting in the call, with MSG_WAITALL or MSG_TRUNC
 *   observe_send         a program sends with MSG_OOB
 *   receive, send        both of these and both of the following, where the kernel runs LSM programs
 *   answer_receive       recv with MSG_OOB or of no bytes, and after a close that should have been a reset: as TCP answers it
 *   answer_send          send with MSG_FASTOPEN, from memory that is not mapped, and after such a close: as TCP answers it
 *   refuse_mapping       TCP_ZEROCOPY_RECEIVE: as a kernel without it
 *   refuse_splice        splice(2) out of a socket of the sockhash: EINVAL, from which callers fall back to read
 *   refuse_splice_file   the same one floor deeper, for kernels that do not let us change a system call's answer, and for
 *                        io_uring; {enter,leave}_ring_splice tell it from a read by io_uring
 *   refuse_splice_lsm    the same where the kernel runs LSM programs
 *   correct_inq          FIONREAD with redirected bytes and those by TCP, on kernels that leave one of them out
 *   correct_answer       TCP_INFO with what was redirected, TCP_NOTSENT_LOWAT as the program has set it
 *   refuse_option        options that come too late, after pairing: the answer of a kernel without the feature
 *
 * All but the last two are tracing programs and need the rights for them; each is loaded on its own, so that a kernel that
 * refuses one still gets the others.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "guard_memory.h"
#include "guard_info.h"
#include "guard_inq.h"
#include "maps.h"
#include "key.h"
#include "guard_reset.h"
#include "socket.h"
#include "totals.h"
#include "guard_habits.h"
#include "guard_splice.h"

/* What in a receive call only TCP does right. MSG_WAITALL asks nothing of a call that does not wait. */
static __always_inline __u32 habits_of(int flags)
{
	__u32 habits = flags & MSG_TRUNC ? HABIT_DISCARD : 0;

	if (flags & MSG_DONTWAIT)
		return habits;
	if (flags & MSG_WAITALL)
		habits |= HABIT_WAITALL;
	if (learning() & LEARN_BLOCKING)
		habits |= HABIT_BLOCKS;
	return habits;
}

static __always_inline bool nothing_waits(struct sock *sk)
{
	return !sk->sk_receive_queue.qlen && !sk->sk_shutdown && !sk->sk_err && !redirected_bytes_wait(sk);
}

static __always_inline void watch_reader(struct sock *sk, struct sock_state *state, int flags)
{
	__u32 habits = habits_of(flags);

	if (habits)
		note_habits(sk, state, habits);
	if (state->habits & HABIT_SPLICE_REFUSED)
		__sync_fetch_and_and(&state->habits, ~HABIT_SPLICE_REFUSED); /* it falls back to what it does now */
	if (state->reader == READER_UNKNOWN)
		__sync_val_compare_and_swap(&state->reader, READER_UNKNOWN, habits ? READER_PLAIN : READER_READY);
}

/* fentry, because only there may a tracing program look up socket storage. It runs before the fmod_ret of the same call. */
SEC("fentry/security_socket_recvmsg")
int observe_receive(unsigned long long *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];
	__u32 size = ctx[2]; /* an int */
	struct sock *sk = sock->sk;
	struct sock_state *state;
	int flags = ctx[3];

	if (!in_sockmap(sk) || !size || (flags & (MSG_OOB | MSG_ERRQUEUE)))
		return 0;
	state = bpf_sk_storage_get(&states, sk, NULL, 0);
	if (!state)
		return 0;
	watch_reader(sk, state, flags);
	leave_call_error(sk, receive_after_reset(sk, state));
	return 0;
}

SEC("fentry/security_socket_sendmsg")
int observe_send(unsigned long long *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];
	struct msghdr *msg = (struct msghdr *)ctx[1];
	struct sock *sk = sock->sk;
	struct sock_state *state;

	if (!in_sockmap(sk) || (!(msg->msg_flags & MSG_OOB) && !peer_has_finished(sk)))
		return 0;
	state = bpf_sk_storage_get(&states, sk, NULL, 0);
	if (!state)
		return 0;
	if (msg->msg_flags & MSG_OOB)
		note_habits(sk, state, HABIT_OOB);
	leave_call_error(sk, send_after_reset(sk, state, msg->msg_flags));
	return 0;
}

/* Receives that tcp_bpf_recvmsg answers in its own way: with MSG_OOB, or of no bytes. */
static __always_inline bool is_odd_receive(__u32 size, int flags)
{
	return (!size || (flags & MSG_OOB)) && !(flags & MSG_ERRQUEUE);
}

/* They get the answer of TCP. */
static __always_inline long answer_to_odd(struct sock *sk, int flags)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!tp)
		return 0;
	if (flags & MSG_OOB)
		return tp->urg_data ? 0 : -EINVAL;
	return (flags & MSG_DONTWAIT) && nothing_waits(sk) ? -EAGAIN : 0;
}

SEC("fmod_ret/security_socket_recvmsg")
long answer_receive(unsigned long long *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];
	__u32 size = ctx[2];
	struct sock *sk = sock->sk;
	int flags = ctx[3];
	long told;

	if (!in_sockmap(sk))
		return 0;
	told = take_call_error(sk);
	if (told)
		return answer(told, EVENT_RECEIVE_ANSWERED);
	return answer(is_odd_receive(size, flags) ? answer_to_odd(sk, flags) : 0, EVENT_RECEIVE_ANSWERED);
}

static __always_inline long answer_to_send(struct sock *sk, const struct msghdr *msg)
{
	if (sk->__sk_common.skc_state != BPF_TCP_ESTABLISHED && !peer_has_finished(sk))
		return 0; /* TCP has a more important answer */
	/* tcp_bpf_sendmsg would not look at the flag. */
	if (msg->msg_flags & MSG_FASTOPEN)
		return bpf_skc_to_tcp_sock(sk) ? -EISCONN : 0;
	return sends_from_unmapped(&msg->msg_iter) ? -EFAULT : 0;
}

SEC("fmod_ret/security_socket_sendmsg")
long answer_send(unsigned long long *ctx)
{
	struct sock *sk = ((struct socket *)ctx[0])->sk;
	long told;

	if (!in_sockmap(sk))
		return 0;
	told = take_call_error(sk);
	return answer(told ? told : answer_to_send(sk, (struct msghdr *)ctx[1]), EVENT_SEND_ANSWERED);
}

/*
 * The same by one program for each hook, where LSM programs run: they may look up socket storage, and answer. The
 * verifier wants to see that what they return is an error number or 0.
 */
SEC("lsm/socket_recvmsg")
int receive(unsigned long long *ctx)
{
	struct sock *sk = ((struct socket *)ctx[0])->sk;
	__u32 size = ctx[2]; /* an int */
	struct sock_state *state;
	int flags = ctx[3];

	if (!in_sockmap(sk) || (flags & MSG_ERRQUEUE))
		return 0;
	if (is_odd_receive(size, flags))
		return answer(answer_to_odd(sk, flags), EVENT_RECEIVE_ANSWERED);
	state = bpf_sk_storage_get(&states, sk, NULL, 0);
	if (!state)
		return 0;
	watch_reader(sk, state, flags);
	return answer(receive_after_reset(sk, state) ? -ECONNRESET : 0, EVENT_RECEIVE_ANSWERED);
}

/* What only the socket's own state tells of a send. */
static __always_inline int answer_by_state(struct sock *sk, unsigned int flags)
{
	struct sock_state *state = bpf_sk_storage_get(&states, sk, NULL, 0);
	__u32 error;

	if (!state)
		return 0;
	if (flags & MSG_OOB)
		note_habits(sk, state, HABIT_OOB);
	error = send_after_reset(sk, state, flags);
	if (!error)
		return 0;
	return error == ECONNRESET ? -ECONNRESET : -EPIPE;
}

SEC("lsm/socket_sendmsg")
int send(unsigned long long *ctx)
{
	struct sock *sk = ((struct socket *)ctx[0])->sk;
	struct msghdr *msg = (struct msghdr *)ctx[1];
	unsigned int flags = msg->msg_flags;
	int told = 0;

	if (!in_sockmap(sk))
		return 0;
	if ((flags & MSG_OOB) || peer_has_finished(sk))
		told = answer_by_state(sk, flags);
	return answer(told ? told : answer_to_send(sk, msg), EVENT_SEND_ANSWERED);
}

/* A kernel that takes LSM programs may run none: what is asked there is whether this one runs. */
SEC("lsm/socket_shutdown")
int say_that_lsm_runs(void *ctx __attribute__((unused)))
{
	struct call_error runs = {};
	__u64 nobody = 0;

	bpf_map_update_elem(&answers, &nobody, &runs, BPF_ANY);
	return 0;
}

/* The kernel maps and copies out of TCP's queue only. The answer of a kernel without the feature. */
SEC("fmod_ret/security_socket_getsockopt")
long refuse_mapping(unsigned long long *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];
	int level = ctx[1], option = ctx[2];

	if (option != TCP_ZEROCOPY_RECEIVE || level != SOL_TCP || !in_sockmap(sock->sk))
		return 0;
	return answer(bpf_skc_to_tcp_sock(sock->sk) ? -ENOPROTOOPT : 0, EVENT_MAPPING_REFUSED);
}

/*
 * The kernel has written its answer where the program wants it. It is read again first, so that nothing is
 * written where the answer is right.
 */
SEC("fexit/inet_ioctl")
int correct_inq(unsigned long long *ctx)
{
	struct sock *sk = ((struct socket *)ctx[0])->sk;
	__u32 command = ctx[1], bytes, said;
	void *answer = (void *)ctx[2];
	int failed = ctx[3];
	struct tcp_sock *tp;

	if (command != FIONREAD || failed || !in_sockmap(sk))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || bpf_probe_read_user(&said, sizeof(said), answer))
		return 0;
	bytes = redirected_waiting(sk) + tcp_waiting(tp);
	if (bytes != said && !bpf_probe_write_user(answer, &bytes, sizeof(bytes)))
		count_event(EVENT_INQ_CORRECTED);
	return 0;
}

/* Turning an option off is always fine. SO_PEEK_OFF is off below 0. */
static __always_inline bool turns_on(const struct bpf_sockopt *ctx)
{
	const int *value = ctx->optval;

	if ((void *)(value + 1) > ctx->optval_end)
		return true;
	if (ctx->level == SOL_SOCKET && ctx->optname == SO_PEEK_OFF)
		return *value >= 0;
	return *value;
}

/* Before pairing these are the program's own business, and such a socket is never inserted. */
static __always_inline int refusal(const struct bpf_sockopt *ctx)
{
	if (ctx->level == SOL_SOCKET && ctx->optname == SO_ZEROCOPY)
		return EOPNOTSUPP;
	if (ctx->level == SOL_SOCKET && ctx->optname == SO_PEEK_OFF)
		return EOPNOTSUPP; /* for TCP, as before 6.9 */
	if (ctx->level == SOL_TCP && ctx->optname == TCP_ULP)
		return ENOENT; /* no such protocol: what a kernel without the module says */
	if (ctx->level == SOL_TCP && ctx->optname == TCP_INQ)
		return ENOPROTOOPT;
	return 0;
}

/* The socket of this context may not be read; its address stands where the two ends met. */
static __always_inline struct sock *address_of(const struct sock_state *state)
{
	struct isn_pair key = rendezvous_key(state);
	const struct rendezvous *flow = bpf_map_lookup_elem(&flows, &key);

	if (!flow)
		return NULL;
	return (struct sock *)(state->role == ROLE_ACTIVE ? flow->active_sk : flow->passive_sk);
}

/* SO_PEEK_OFF sends what comes from now on by TCP, which honours it: only what waits already would not. */
static __always_inline bool too_late(const struct bpf_sockopt *ctx, const struct sock_state *state)
{
	struct sock *sk;

	if (ctx->level != SOL_SOCKET || ctx->optname != SO_PEEK_OFF)
		return true;
	sk = address_of(state);
	return sk && redirected_bytes_wait(sk);
}

SEC("cgroup/setsockopt")
int refuse_option(struct bpf_sockopt *ctx)
{
	struct sock_state *state;
	int error = refusal(ctx);

	if (!error || !turns_on(ctx) || !ctx->sk)
		return 1;
	state = bpf_sk_storage_get(&states, ctx->sk, NULL, 0);
	if (!state || state->left || !too_late(ctx, state))
		return 1;
	bpf_set_retval(-error);
	count_event(EVENT_OPTION_REFUSED);
	return 0;
}

SEC("cgroup/getsockopt")
int correct_answer(struct bpf_sockopt *ctx)
{
	if (ctx->level != SOL_TCP || ctx->retval)
		return 1;
	if (ctx->optname == TCP_INFO)
		complete_info(ctx);
	else if (ctx->optname == TCP_NOTSENT_LOWAT)
		hide_mark(ctx);
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
