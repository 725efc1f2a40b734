// SPDX-License-Identifier: Apache-2.0

// Package endpoint registers the sandboxes of containers with the data path, and removes them again. Each
// call is one transaction. The package is independent of CNI's wire format; the plugin, sockmapctl and the
// agent use it.
//
// # What an ADD makes
//
// An ADD makes three things in this order:
//
//	attachment   attachments[network, container, interface]: what this ADD is about to make
//	link         pinned for the cgroup; shared by all attachments with the cgroup
//	endpoint     endpoints[netns cookie]: the policy; shared by all attachments with the cookie
//
// There are no reference counts. A link or an endpoint belongs to the attachments that name it, and is
// removed with the last of them. A count would have to be repaired after every kill; a list of attachments is
// right by construction.
//
// # What a kill leaves
//
// When a process is killed, the kernel releases its lock, and what it has made stays. The attachment is
// written first and deleted last, so whatever stays is named by an attachment: the next call for the same key
// completes or removes it, and Reap removes it once the sandbox is gone. There is one exception. If an ADD
// replaces an older attachment of the same key and is killed before it has removed the link and endpoint of
// the older one, no attachment names these. A mark says so, and Reap, or the next ADD, removes links and
// endpoints without an attachment.
//
// # Versions
//
// All calls work with the loaded programs, whichever version loaded them. Only Upgrade replaces them. If
// Upgrade is killed at any step, the loaded programs work, and the next Upgrade starts again. Every call that
// changes something first completes whatever can be completed without choosing a version (tidy). See
// docs/UPGRADE.md.
//
// # What is dead
//
// An attachment is removed without a DEL only if its sandbox provably does not exist any more: its cgroup is
// gone, or the file of its network namespace is missing or another one, as seen from the mount namespace that
// recorded it; and no process is in its network namespace, where other containers may live on. If that is not
// known, the attachment stays. A declined sandbox has no link, but the cgroup of its container is recorded,
// which can be checked from every mount namespace.
package endpoint
