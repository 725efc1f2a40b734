// SPDX-License-Identifier: Apache-2.0

// Package pod runs sockmapctl on this kernel as the chart's DaemonSet would: with its capabilities, mounts and read-only root,
// in namespaces like a container's. The tests are all there is.
package pod
