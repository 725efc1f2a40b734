// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// FromCacheDir lists the sandboxes whose results libcni has cached below dir and whose network namespaces
// exist. Every runtime that uses libcni writes this cache: network and interface, arguments, and the values
// for the capabilities of the plugins.
func FromCacheDir(dir string) ([]Pod, error) {
	if _, err := os.Stat(filepath.Join(dir, "results")); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	all, err := libcni.NewCNIConfigWithCacheDir(nil, dir, nil).GetCachedAttachments("")
	if err != nil {
		return nil, fmt.Errorf("read cached attachments: %w", err)
	}
	var lists [][]Pod
	for _, a := range all {
		if p, ok := cachedPod(a); ok {
			lists = append(lists, []Pod{p})
		}
	}
	return merge(lists...), nil
}

// cachedPod returns false for an attachment whose sandbox is gone, or whose cache entry an older libcni wrote
// without the namespace.
func cachedPod(a *libcni.NetworkAttachment) (Pod, bool) {
	path := hostPath(a.NetNS)
	if _, _, err := netns.Stat(path); err != nil {
		return Pod{}, false
	}
	var args []string
	for _, pair := range a.CniArgs {
		args = append(args, pair[0]+"="+pair[1])
	}
	id, _ := cniconf.ParseArgs(strings.Join(args, ";"))
	p := Pod{
		ID: a.ContainerID, Namespace: id.PodNamespace, Name: id.PodName, UID: id.PodUID, NetNS: path,
		From: FromCache, Attachments: []Attachment{{a.Network, a.IfName}},
	}
	p.Cgroup, _ = a.CapabilityArgs[cniconf.CapabilityCgroupPath].(string)
	if given, ok := a.CapabilityArgs[cniconf.CapabilityPodAnnotations].(map[string]any); ok {
		p.Annotations = map[string]string{}
		for name, value := range given {
			if s, ok := value.(string); ok {
				p.Annotations[name] = s
			}
		}
	}
	return p, true
}
