// SPDX-License-Identifier: Apache-2.0

// Package live reads the live sockets of this node and prepares them for commands: who owns an end, which two ends are a
// pair, rates between two lists, filters and orders.
package live
