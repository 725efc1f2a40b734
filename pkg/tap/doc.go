// SPDX-License-Identifier: Apache-2.0

// Package tap makes of copied messages what people and their tools can read.
//
// A Session keeps a datapath.Tap alive. What it reads are parts of messages: bytes as a program has sent them, whose place
// in their TCP stream is known. Streams makes the TCP segments of them that could have carried them, and Writer writes these
// as pcapng for Wireshark and its like. No segment has ever been: redirected bytes are in no packet, and what went by TCP was
// cut in other places. Sequence numbers, addresses and times are real ones; handshakes are made up where a stream is seen
// from its first byte, acknowledgements say how far the other direction has been seen, and connections have no end.
package tap
