// SPDX-License-Identifier: Apache-2.0

// Package live reads the live sockets of this node and prepares them for commands: the owner of an end, the
// two ends of a pair, rates between two lists, filters and orders.
package live
