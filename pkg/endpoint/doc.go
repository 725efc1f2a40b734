// SPDX-License-Identifier: Apache-2.0

// Package endpoint registers container sandboxes with the data path and removes them again. It is one transaction
// per call, independent of CNI's wire format, for the plugin and for sockmapctl.
//
// # What an ADD makes
//
// Three things, in this order, each of which says what the ones before it are for:
//
//	record     attachments[network, container, interface]: what this ADD is about to make
//	link       pinned for the cgroup; shared by all records that name the cgroup
//	endpoint   endpoints[netns cookie]: the policy; shared by all records that name the cookie
//
// Nothing is counted: a link or an endpoint belongs to the records that name it, and goes with the last of them.
// A counter would have to be repaired after every kill, a list of records is right by construction.
//
// # What a kill leaves
//
// The kernel drops the lock of a killed process, and what it had made so far stays. Because the record comes first
// on the way in and goes last on the way out, whatever stays is named by a record: the next call for the same key
// completes or removes it, and Reap does once the sandbox is gone. Two things can stay unnamed, when an ADD that
// replaces an older one of the same key is killed between the new record and the removal of the older one's share;
// Reap and every later ADD sweep links and endpoints that no record names.
//
// # Versions
//
// All calls work with the programs that are loaded, whichever version did that; only Upgrade replaces them. It may be killed
// at any step: what is loaded works, the next Upgrade begins anew, and every call that changes something first ends what can be
// ended without choosing a version (tidy). See docs/UPGRADE.md.
//
// # What is dead
//
// A record is removed without its runtime's word only when the sandbox provably is no more: its cgroup is gone, or
// its network namespace file is missing or another one, seen from the mount namespace that recorded it; and no process is
// in its network namespace, where other containers can live on. What cannot be judged stays. A sandbox that was declined
// has no link, but the cgroup of its container is recorded, by which it can be judged from every mount namespace.
package endpoint
