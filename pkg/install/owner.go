// SPDX-License-Identifier: Apache-2.0

package install

import (
	"path/filepath"
	"strings"
)

// Owner guesses which component writes a network's configuration, and what ends a dispute with it. It uses
// the type of the main plugin, and where several components use one plugin, the names of the network and the
// file. It is empty for unknown ones.
func Owner(c Chained) string {
	file := filepath.Base(c.Path)
	switch {
	case c.Network == "kindnet" || strings.Contains(file, "kindnet"):
		return "kindnet (kindnetd)"
	case strings.Contains(file, "kuberouter") || strings.Contains(file, "kube-router"):
		return "kube-router"
	case strings.Contains(file, "spiderpool"):
		return "spiderpool-agent"
	}
	switch c.Main {
	case "cilium-cni":
		return "the Cilium agent (set cni.exclusive=false)"
	case "calico":
		return "install-cni of calico-node"
	case "flannel":
		return "the flannel DaemonSet, or K3s"
	case "aws-cni":
		return "aws-node (Amazon VPC CNI)"
	case "azure-vnet":
		return "Azure CNI (azure-cns)"
	case "terway":
		return "terway (Alibaba Cloud)"
	case "antrea":
		return "antrea-agent"
	case "weave-net":
		return "weave-net"
	case "ovn-k8s-cni-overlay":
		return "ovnkube-node"
	case "kube-ovn":
		return "kube-ovn-cni"
	case "multus", "multus-shim":
		return "Multus"
	}
	return ""
}
