// SPDX-License-Identifier: Apache-2.0

// Package pod has tests only. They run sockmapctl on this kernel as the chart's DaemonSet would: with its
// capabilities, mounts and read-only root, in namespaces like a container's.
package pod
