/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a tap gets. A part of abi.h, which includes it. */
#pragma once

#include "abi.h"

enum tap_size {
	TAP_CHUNK = 4096,		/* bytes of a message in one record at most */
	TAP_SNAP_MAX = 136 * TAP_CHUNK, /* bytes: 544 KiB, the largest message that the verdict ever sees */
};

/*
 * A tap gets one record for each chunk of a message, in order, followed by the chunk. Addresses are those
 * that the passive end sees, in both directions, so that both halves of a connection match although NAT is
 * between them. Network order, v4 in the first four bytes.
 */
struct tap_record {
	__u64 time_ns;	      /* CLOCK_MONOTONIC */
	struct isn_pair self; /* of the sender */
	__u64 netns;	      /* of the sender */
	__u64 peer_netns;
	__u32 seq;	      /* TCP sequence number of the message's first byte */
	__u32 message_bytes;  /* of the whole message */
	__u32 offset;	      /* of this chunk in it */
	__u32 captured_bytes; /* that follow this record */
	__u16 family;
	__u16 passive_port;
	__u16 active_port;
	__u8 role; /* of the sender */
	__u8 redirected;
	__u8 passive_addr[16];
	__u8 active_addr[16];
};

struct tap_drops {
	__u64 messages;
	__u64 bytes; /* that would have been captured */
};

_Static_assert(sizeof(struct tap_record) == 88, "tap_record is an ABI");
_Static_assert(sizeof(struct tap_drops) == 16, "tap_drops is an ABI");
