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

// FromCacheDir lists the sandboxes that libcni has kept results of below dir, and whose network namespace is still there. It is
// what every runtime that uses libcni leaves: network and interface, arguments, and what the runtime would pass to the
// plugins that asked for it.
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

// cachedPod is false for an attachment whose sandbox is gone, or that an older libcni has kept without its namespace.
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
