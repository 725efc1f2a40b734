// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"path"
	"strings"
)

// parentOf returns the cgroup of the pod, the parent of the sandbox's cgroup. Runtimes write
// "/kubepods/pod1/abc", or with systemd "kubepods-pod1.slice:cri-containerd:abc".
func parentOf(cgroupsPath string) string {
	if slice, _, ok := strings.Cut(cgroupsPath, ":"); ok {
		return slice
	}
	if parent := path.Dir(cgroupsPath); path.IsAbs(parent) && parent != "/" {
		return parent
	}
	return ""
}
