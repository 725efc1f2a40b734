// SPDX-License-Identifier: Apache-2.0

// Package pods lists the running sandboxes of container runtimes on this node, whether the plugin was called
// for them or not. It only reads: the CRI socket of a runtime, the cache of libcni, /proc and the files of
// network namespaces.
package pods

import (
	"cmp"
	"slices"
)

// Pod is one running sandbox.
type Pod struct {
	ID                   string // ID of the sandbox: CNI_CONTAINERID
	Namespace, Name, UID string // empty if the runtime does not say
	Annotations          map[string]string
	Unsure               bool   // Annotations may have changed since: do not decide by them
	Cgroup               string // as the runtime writes it, like runtimeConfig.cgroupPath; empty: unknown
	NetNS                string // path; empty: unknown, or the host's
	HostNetwork          bool
	From                 string // the source that knows it: FromCRI, FromCache or FromProcesses
	Attachments          []Attachment
}

// The sources. FromProcesses can be anything that has a network namespace, so adopt such a pod only if the
// user names it.
const (
	FromCRI       = "CRI"
	FromCache     = "libcni's cache"
	FromProcesses = "processes"
)

// Attachment is one interface of a pod.
type Attachment struct{ Network, IfName string }

// String returns the name for users: NAMESPACE/NAME, or the ID.
func (p Pod) String() string {
	switch {
	case p.Namespace != "" && p.Name != "":
		return p.Namespace + "/" + p.Name
	case p.Name != "":
		return p.Name
	}
	return p.ID
}

// merge merges the lists of several sources and sorts the result by name. For a sandbox in several lists the
// first list counts, and the others fill in what it leaves empty.
func merge(lists ...[]Pod) []Pod {
	at := map[string]int{}
	var all []Pod
	for _, list := range lists {
		for _, p := range list {
			i, known := at[p.ID]
			if !known {
				at[p.ID] = len(all)
				all = append(all, p)
				continue
			}
			all[i].fill(p)
		}
	}
	slices.SortFunc(all, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all
}

func (p *Pod) fill(other Pod) {
	p.Namespace, p.Name = cmp.Or(p.Namespace, other.Namespace), cmp.Or(p.Name, other.Name)
	p.UID, p.Cgroup = cmp.Or(p.UID, other.UID), cmp.Or(p.Cgroup, other.Cgroup)
	if !p.HostNetwork {
		p.NetNS = cmp.Or(p.NetNS, other.NetNS)
	}
	if p.Annotations == nil {
		p.Annotations = other.Annotations
	}
	for _, a := range other.Attachments {
		if !slices.Contains(p.Attachments, a) {
			p.Attachments = append(p.Attachments, a)
		}
	}
}
