// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Guards: they make a redirected socket behave like TCP where the kernel's own code does not.
 *
 *   observe_receive      notes how a program receives: waiting in the call, MSG_WAITALL, MSG_TRUNC
 *   observe_send         notes sends with MSG_OOB
 *   answer_receive       receive with MSG_OOB or of no bytes, and after a reset: fails as with TCP
 *   answer_send          send with MSG_FASTOPEN or from unmapped memory, and after a reset: fails as with TCP
 *   receive, send        all of the above in one program each, where the kernel runs LSM programs
 *   refuse_mapping       TCP_ZEROCOPY_RECEIVE: fails as on a kernel without it
 *   refuse_splice        splice(2) out of a socket in the sockhash: EINVAL, so callers fall back to read(2)
 *   refuse_splice_file   the same at a deeper hook, for io_uring and for kernels without the hook above
 *   enter_ring_splice, leave_ring_splice   tell refuse_splice_file that io_uring splices and does not read
 *   refuse_splice_lsm    the same as an LSM program
 *   correct_inq          FIONREAD: counts redirected bytes and those over TCP, on kernels that count one kind
 *   correct_answer       TCP_INFO with redirected bytes, TCP_NOTSENT_LOWAT as the program has set it
 *   refuse_option        options that are set too late, after pairing: fail as on a kernel without them
 *
 * All but the last two are tracing or LSM programs and need the rights for them. Each is loaded separately,
 * so that a kernel which refuses one still gets the others.
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

/* What in a receive call only TCP handles right. MSG_WAITALL has no effect on a call that does not wait. */
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
		__sync_fetch_and_and(&state->habits,
				     ~HABIT_SPLICE_REFUSED); /* it falls back to what it does now */
	if (state->reader == READER_UNKNOWN)
		__sync_val_compare_and_swap(&state->reader, READER_UNKNOWN,
					    habits ? READER_PLAIN : READER_READY);
}

/*
 * fentry, because no other tracing program may look up socket storage. It runs before the fmod_ret of the
 * same call.
 */
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

/* Receive calls that tcp_bpf_recvmsg handles differently from TCP: with MSG_OOB, or of no bytes. */
static __always_inline bool is_odd_receive(__u32 size, int flags)
{
	return (!size || (flags & MSG_OOB)) && !(flags & MSG_ERRQUEUE);
}

/* The error that TCP returns for them, negative; 0: none. */
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
	long error;

	if (!in_sockmap(sk))
		return 0;
	error = take_call_error(sk);
	if (error)
		return counted(error, EVENT_RECEIVE_ANSWERED);
	return counted(is_odd_receive(size, flags) ? answer_to_odd(sk, flags) : 0, EVENT_RECEIVE_ANSWERED);
}

static __always_inline long answer_to_send(struct sock *sk, const struct msghdr *msg)
{
	if (sk->__sk_common.skc_state != BPF_TCP_ESTABLISHED && !peer_has_finished(sk))
		return 0; /* TCP returns a more important error */
	/* tcp_bpf_sendmsg would not look at the flag. */
	if (msg->msg_flags & MSG_FASTOPEN)
		return bpf_skc_to_tcp_sock(sk) ? -EISCONN : 0;
	return sends_from_unmapped(&msg->msg_iter) ? -EFAULT : 0;
}

SEC("fmod_ret/security_socket_sendmsg")
long answer_send(unsigned long long *ctx)
{
	struct sock *sk = ((struct socket *)ctx[0])->sk;
	long error;

	if (!in_sockmap(sk))
		return 0;
	error = take_call_error(sk);
	return counted(error ? error : answer_to_send(sk, (struct msghdr *)ctx[1]), EVENT_SEND_ANSWERED);
}

/*
 * The same in one program for each hook, where LSM programs run: they may look up socket storage, and return
 * an error. The verifier must see that they return an errno or 0.
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
		return counted(answer_to_odd(sk, flags), EVENT_RECEIVE_ANSWERED);
	state = bpf_sk_storage_get(&states, sk, NULL, 0);
	if (!state)
		return 0;
	watch_reader(sk, state, flags);
	return counted(receive_after_reset(sk, state) ? -ECONNRESET : 0, EVENT_RECEIVE_ANSWERED);
}

/* The error of a send that depends on the socket's own state, negative; 0: none. */
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
	int error = 0;

	if (!in_sockmap(sk))
		return 0;
	if ((flags & MSG_OOB) || peer_has_finished(sk))
		error = answer_by_state(sk, flags);
	return counted(error ? error : answer_to_send(sk, msg), EVENT_SEND_ANSWERED);
}

/* A kernel may load LSM programs and run none. This one shows whether they run. */
SEC("lsm/socket_shutdown")
int say_that_lsm_runs(void *ctx __attribute__((unused)))
{
	struct call_error runs = {};
	__u64 nobody = 0;

	bpf_map_update_elem(&answers, &nobody, &runs, BPF_ANY);
	return 0;
}

/* The kernel maps and copies out of TCP's queue only. Returns the error of a kernel without the feature. */
SEC("fmod_ret/security_socket_getsockopt")
long refuse_mapping(unsigned long long *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];
	int level = ctx[1], option = ctx[2];

	if (option != TCP_ZEROCOPY_RECEIVE || level != SOL_TCP || !in_sockmap(sock->sk))
		return 0;
	return counted(bpf_skc_to_tcp_sock(sock->sk) ? -ENOPROTOOPT : 0, EVENT_MAPPING_REFUSED);
}

/*
 * The kernel has written its result into the program's memory. It is read back first, so that nothing is
 * written if it is right.
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

/* Clearing an option is always allowed. SO_PEEK_OFF is off below 0. */
static __always_inline bool turns_on(const struct bpf_sockopt *ctx)
{
	const int *value = ctx->optval;

	if ((void *)(value + 1) > ctx->optval_end)
		return true;
	if (ctx->level == SOL_SOCKET && ctx->optname == SO_PEEK_OFF)
		return *value >= 0;
	return *value;
}

/*
 * Options that a paired socket cannot have, with the errno of a kernel without them. A socket that has one
 * before pairing never enters the sockhash.
 */
static __always_inline int refusal(const struct bpf_sockopt *ctx)
{
	if (ctx->level == SOL_SOCKET && ctx->optname == SO_ZEROCOPY)
		return EOPNOTSUPP;
	if (ctx->level == SOL_SOCKET && ctx->optname == SO_PEEK_OFF)
		return EOPNOTSUPP; /* for TCP, as before 6.9 */
	if (ctx->level == SOL_TCP && ctx->optname == TCP_ULP)
		return ENOENT; /* no such protocol, as on a kernel without the module */
	if (ctx->level == SOL_TCP && ctx->optname == TCP_INQ)
		return ENOPROTOOPT;
	return 0;
}

/* The program may not read the socket of this context. Its address is in the rendezvous entry. */
static __always_inline struct sock *address_of(const struct sock_state *state)
{
	struct isn_pair key = rendezvous_key(state);
	const struct rendezvous *flow = bpf_map_lookup_elem(&flows, &key);

	if (!flow)
		return NULL;
	return (struct sock *)(state->role == ROLE_ACTIVE ? flow->active_sk : flow->passive_sk);
}

/*
 * After SO_PEEK_OFF, what comes uses TCP, which honours it. Only for bytes that wait already it comes too
 * late.
 */
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
