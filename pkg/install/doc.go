// SPDX-License-Identifier: Apache-2.0

// Package install puts the plugin on a node and removes it: the binary in the directory of CNI plugins, and
// the plugin's entry in the network configuration that the container runtimes load.
//
// # What it writes
//
//	BINDIR/sockmap                          the plugin, or its stub while cached attachments name it
//	CONFDIR/NN-name.conflist                the entry, in the text of a list that another component wrote
//	CONFDIR/NN-name.conf.conflist           a list made from NN-name.conf, which can hold one plugin only
//	CONFDIR/NN-name.conf.sockmap-original   that file as it was, while the list replaces it
//	CONFDIR/NETWORK/90-sockmap.conf         the entry, with DropIn
//
// Every file is written beside its place under a name that no runtime loads (.sockmap-*.tmp), synced and
// renamed. A kill at any moment leaves the old file or the new one, and at most a temporary file that the
// next call removes.
//
// # Files of other components
//
// The text of a list is edited, not written again: other keys, numbers and white space keep their bytes.
// Removing the entry restores the bytes from before it was added. Before a result is written, libcni reads
// it: it must be the old list with one more plugin.
package install
