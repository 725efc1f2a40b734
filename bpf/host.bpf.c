// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sock_ops for one pod with hostNetwork. Each such pod has a copy of its own, because a program can learn
 * neither the cgroup that it is attached to nor the cgroup of a socket.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "dispatch.h"

/* Written by user space before the program is loaded. */
const volatile struct host_pod host_pod = {};

SEC("sockops")
int sock_ops_host(struct bpf_sock_ops *ops)
{
	struct host_pod pod = { .host_netns = host_pod.host_netns, .key = host_pod.key };

	return dispatch(ops, false, &pod);
}

char _license[] SEC("license") = "Dual BSD/GPL";
