/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types that the programs read, with the members that they read. preserve_access_index makes every
 * access a CO-RE relocation: the loader inserts the offsets of the running kernel from its BTF. So order and
 * padding do not matter here, only names and types.
 */
#pragma once

#include <stdbool.h>

#include <asm/ioctls.h>
#include <asm/socket.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/socket.h>
#include <linux/stat.h>
#include <linux/tcp.h>
#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct atomic_long {
	long counter;
};

/* Its first member is a signed 64-bit number on every kernel, see probe.h. */
struct timespec64 {
	long tv_sec;
};

struct page_counter {
	struct atomic_long usage;
	unsigned long max;
	struct page_counter *parent;
};

/* A memory cgroup. tcpmem: cgroup v1. */
struct mem_cgroup_per_node {
	unsigned long lru_zone_size[1][1];
};

struct mem_cgroup {
	struct page_counter memory;
	struct page_counter tcpmem;
	unsigned long socket_pressure;
	bool tcpmem_active;
	struct mem_cgroup_per_node *nodeinfo[0];
};

struct proto {
	struct atomic_long *memory_allocated;
	unsigned long *memory_pressure;
	long *sysctl_mem;
};

/* A sockhash, as a program may read it through the map's address. */
struct bpf_map {
	__u32 max_entries;
};

struct bpf_shtab {
	struct bpf_map map;
	atomic_t count;
};

struct netns_ipv4 {
	int sysctl_tcp_rmem[3];
};

struct net {
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	struct proto *skc_prot;
	possible_net_t skc_net;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct {
		long long counter;
	} skc_cookie;
	unsigned long skc_flags;
};

/* Relocated: the kernel's own values are used. */
enum sock_flags {
	SOCK_DONE = 1,
	SOCK_URGINLINE = 2,
	SOCK_RCVTSTAMP = 8,
	SOCK_TIMESTAMPING_RX_SOFTWARE = 15,
	SOCK_ZEROCOPY = 26,
};

struct sk_filter;
struct socket;

struct list_head {
	struct list_head *next;
};

struct sock {
	struct sock_common __sk_common;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	struct {
		int owned;
	} sk_lock;
	struct {
		__u32 qlen;
	} sk_receive_queue;
	struct socket *sk_socket;
	struct sk_filter *sk_filter;
	int sk_rcvlowat;
	int sk_rcvbuf;
	int sk_sndbuf;
	int sk_peek_off;
	int sk_err;
	__u32 sk_tsflags;
	__u8 sk_shutdown;
	__u8 sk_userlocks : 4; /* bit SOCK_SNDBUF_LOCK: the program has set SO_SNDBUF */
	void *sk_user_data;
	struct mem_cgroup *sk_memcg;
};

/* sk_user_data without its low bits points to it while the socket is in a sockmap. */
struct sk_psock {
	struct list_head ingress_msg;
	struct {
		atomic_t refs;
	} refcnt; /* one for the sockmap, one for each call inside tcp_bpf_sendmsg or tcp_bpf_recvmsg */
};

/* A message as the verdict gets it: a ring of pieces. The number of entries depends on the kernel. */
struct scatterlist {
	unsigned int length;
};

struct sk_msg_sg {
	__u32 start;
	__u32 size; /* bytes that are left of the message */
	struct scatterlist data[19];
};

struct sk_msg {
	struct sk_msg_sg sg;
	struct sock *sk_redir;
	struct list_head list; /* in sk_psock.ingress_msg */
};

struct inet_sock {
	struct sock sk;
};

struct tcp_ulp_ops;
struct tcp_fastopen_request;
struct request_sock;

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	__u8 icsk_probes_out;
	const struct tcp_ulp_ops *icsk_ulp_ops;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 write_seq;
	__u32 copied_seq;
	__u32 rcv_nxt;
	__u32 window_clamp;
	__u32 notsent_lowat;
	__u64 bytes_sent;
	__u32 data_segs_in;
	__u64 bytes_retrans;
	struct tcp_fastopen_request *fastopen_req;
	struct request_sock *fastopen_rsk;
	__u8 repair : 1;
	__u8 syn_fastopen : 1;
	__u8 recvmsg_inq : 1;
	__u8 nonagle : 4;
	__u16 urg_data;
	__u32 urg_seq;
	bool is_mptcp;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

/* For the guards: from a descriptor or a file to its socket. */
struct inode {
	unsigned short i_mode;
};

struct file {
	struct inode *f_inode;
	void *private_data;
	unsigned int f_flags;
	void *f_ep; /* not NULL: the file is in an epoll set */
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct mm_struct {
	unsigned long start_stack;
};

struct pipe_inode_info {
	unsigned int head;
	unsigned int tail;
};

struct task_struct {
	struct pipe_inode_info *splice_pipe; /* of sendfile(2), made at its first call and kept */
	struct files_struct *files;
	struct mm_struct *mm;
};

struct vm_area_struct {
	unsigned long vm_flags;
};

struct socket {
	struct sock *sk;
	struct file *file;
};

enum iter_type {
	ITER_UBUF = 0, /* relocated */
};

struct iovec {
	void *iov_base;
};

struct iov_iter {
	__u8 iter_type;
	unsigned long iov_offset;
	struct iovec __ubuf_iovec; /* since 6.4, when a send in one piece became ITER_UBUF */
	void *ubuf;
	unsigned long count;
};

struct msghdr {
	struct iov_iter msg_iter;
	unsigned int msg_flags;
};

/* Where a system call keeps its number and its first argument. */
#if defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__s32 syscallno;
};
#define PARM1_REG      regs[0]
#define SYSCALL_NR_REG syscallno
#define __NR_splice    76
#define __NR_sendfile  71
#define __NR_read      63
#else
struct pt_regs {
	unsigned long di;
	unsigned long orig_ax;
};
#define PARM1_REG      di
#define SYSCALL_NR_REG orig_ax
#define __NR_splice    275
#define __NR_sendfile  40
#define __NR_read      0
#endif

/* From include/linux/mmzone.h. */
enum lru_list {
	LRU_INACTIVE_ANON = 0,
	LRU_ACTIVE_ANON = 1,
	LRU_INACTIVE_FILE = 2,
	LRU_ACTIVE_FILE = 3,
	LRU_UNEVICTABLE = 4,
	NR_LRU_LISTS,
};

#pragma clang attribute pop

/* A BPF context, not a kernel object: its offsets are fixed, so no relocations. */
struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	void *map;
	struct sock *sk;
	void *value;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
	unsigned int uid;
};

/*
 * Constants of the kernel that no header of its user API has, under their own names. They are part of the
 * system call interface, or have never changed.
 */
enum {
	/* linux/socket.h */
	AF_INET = 2,
	AF_INET6 = 10,
	SOL_TCP = 6,
	MSG_OOB = 0x1,
	MSG_TRUNC = 0x20,
	MSG_DONTWAIT = 0x40,
	MSG_WAITALL = 0x100,
	MSG_ERRQUEUE = 0x2000,
	MSG_NOSIGNAL = 0x4000,
	MSG_FASTOPEN = 0x20000000,
	SIGPIPE = 13,	     /* asm/signal.h */
	MAY_READ = 4,	     /* linux/fs.h */
	VM_ACCESS_FLAGS = 7, /* linux/mm.h: VM_READ | VM_WRITE | VM_EXEC */
	/* net/tcp.h */
	TCPHDR_SYN = 0x02,
	TCP_NAGLE_CORK = 2, /* bit of tcp_sock.nonagle: TCP_CORK is set */
	/* net/sock.h */
	RCV_SHUTDOWN = 1,	/* bit of sock.sk_shutdown */
	SK_USER_DATA_PSOCK = 4, /* bit of sock.sk_user_data: it points to a psock */
};

#define SK_USER_DATA_PTRMASK (~7UL) /* net/sock.h: the bits of sock.sk_user_data that are the address */
