// SPDX-License-Identifier: Apache-2.0

// Package tap turns copied messages into formats that people and their tools can read.
//
// A Session keeps a datapath.Tap alive. It reads parts of messages: bytes as a program has sent them, with
// their position in the TCP stream. Streams turns them into TCP segments that could have carried them, and
// Writer writes these as pcapng for Wireshark and similar tools. The segments never existed: redirected bytes
// are in no packet, and TCP cut its bytes at other positions. Sequence numbers, addresses and times are real.
// Handshakes are added if a stream is seen from its first byte, acknowledgements follow the bytes seen in the
// other direction, and connections have no end.
package tap
