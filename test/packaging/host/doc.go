// SPDX-License-Identifier: Apache-2.0

// Package host has tests only. They install, upgrade and remove the deb and rpm packages on a machine with
// systemd and podman: a Debian tree in its own namespaces.
package host
