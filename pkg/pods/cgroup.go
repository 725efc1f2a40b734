// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"path"
	"strings"
)

// parentOf is the cgroup of a pod, in which the sandbox's own is: runtimes write "/kubepods/pod1/abc", or for systemd
// "kubepods-pod1.slice:cri-containerd:abc".
func parentOf(cgroupsPath string) string {
	if slice, _, ok := strings.Cut(cgroupsPath, ":"); ok {
		return slice
	}
	if parent := path.Dir(cgroupsPath); path.IsAbs(parent) && parent != "/" {
		return parent
	}
	return ""
}
