// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// Sources are where Find looks.
type Sources struct {
	CRI     *CRI     // nil: no runtime is asked
	Kubelet *Kubelet // nil: annotations are those at the creation of the sandbox
	Caches  []string // directories of libcni
	Named   string   // directory of named network namespaces; empty, or CRI is set: processes are not searched
}

// Find lists the running pods from all sources. It continues after errors and joins them. A namespace that a
// runtime knows is not listed again for its processes.
func (s Sources) Find(ctx context.Context) ([]Pod, error) {
	var (
		lists [][]Pod
		errs  []error
	)
	add := func(list []Pod, err error) {
		lists, errs = append(lists, list), append(errs, err)
	}
	if s.CRI != nil {
		add(s.CRI.Pods(ctx))
	}
	for _, dir := range s.Caches {
		add(FromCacheDir(dir))
	}
	known := map[netns.Inode]bool{}
	for _, p := range merge(lists...) {
		if dev, inode, err := netns.Stat(p.NetNS); err == nil {
			known[netns.Inode{Dev: dev, Inode: inode}] = true
		}
	}
	if s.Named != "" && s.CRI == nil {
		local, err := Local(s.Named)
		var others []Pod
		for _, p := range local {
			if dev, inode, err := netns.Stat(p.NetNS); err == nil && !known[netns.Inode{Dev: dev, Inode: inode}] {
				others = append(others, p)
			}
		}
		add(others, err)
	}
	all := merge(lists...)
	if s.Kubelet != nil {
		now, err := s.Kubelet.Annotations(ctx)
		errs = append(errs, err)
		annotate(all, now)
	}
	return all, errors.Join(errs...)
}
