// SPDX-License-Identifier: Apache-2.0

// Package world collects the facts of this node that explain one connection: the live socket if there is one,
// otherwise the configuration and the containers of its addresses. No other package of sockmapctl uses
// netlink.
package world
