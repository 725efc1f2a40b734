/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The design of the well-known samples, for comparison: the key is the 4-tuple, every socket of the cgroup
 * enters the sockhash when it is established, and each message is redirected to the socket with the mirrored
 * key. There are no bounds and no policy, and unread bytes of TCP are ignored. IPv4 only, as in the samples.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Network byte order, ports in the half of the word where the kernel shows a remote port. */
struct tuple {
	__u32 local_ip;
	__u32 remote_ip;
	__u32 local_port;
	__u32 remote_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65535);
	__type(key, struct tuple);
	__type(value, __u64);
} tuples SEC(".maps");

SEC("sockops")
int classic_ops(struct bpf_sock_ops *ops)
{
	struct tuple own;

	if (ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	own.local_ip = ops->local_ip4;
	own.remote_ip = ops->remote_ip4;
	own.local_port = bpf_htonl(ops->local_port);
	own.remote_port = ops->remote_port;
	bpf_sock_hash_update(ops, &tuples, &own, BPF_NOEXIST);
	return 1;
}

/* The helper's result is ignored, as in the samples: a message whose peer is not found uses TCP. */
SEC("sk_msg")
int classic_verdict(struct sk_msg_md *msg)
{
	struct tuple other;

	other.local_ip = msg->remote_ip4;
	other.remote_ip = msg->local_ip4;
	other.local_port = msg->remote_port;
	other.remote_port = bpf_htonl(msg->local_port);
	bpf_msg_redirect_hash(msg, &tuples, &other, BPF_F_INGRESS);
	return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
