// SPDX-License-Identifier: Apache-2.0

// Package install puts the plugin on a node and takes it away again: the binary into the directory of CNI plugins,
// and the plugin's entry into the network configuration that the container runtimes load.
//
// # What it writes
//
//	BINDIR/sockmap                          the plugin, or its stub while cached attachments name it
//	CONFDIR/NN-name.conflist                the entry, put into the text of somebody else's list
//	CONFDIR/NN-name.conf.conflist           a list made of NN-name.conf, which holds one plugin only
//	CONFDIR/NN-name.conf.sockmap-original   that file as it was, while the list stands in for it
//	CONFDIR/NETWORK/90-sockmap.conf         the entry, with DropIn
//
// Every file is written beside its place under a name that no runtime loads (.sockmap-*.tmp), synced and renamed. A
// kill at any moment leaves the old file or the new one, and at most a temporary one that the next call removes.
//
// # Somebody else's file
//
// The text of a list is edited, not written anew: what stood there keeps its bytes, in other keys, in numbers, in
// white space. Taking the entry out gives the bytes back that were there before it was put in. The result is handed
// to libcni before it is written, and must be the old list and one plugin more.
package install
