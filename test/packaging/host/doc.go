// SPDX-License-Identifier: Apache-2.0

// Package host installs, upgrades and removes the deb and rpm packages on a machine with systemd and
// podman: a Debian tree in namespaces of its own. The tests are all there is.
package host
