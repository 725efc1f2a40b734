// SPDX-License-Identifier: Apache-2.0

// Package pods tells which sandboxes of container runtimes run on this node, whether the plugin has been called for them or
// not. It only reads: the CRI socket of a runtime, the results that libcni keeps, /proc and the files of network namespaces.
package pods

import (
	"cmp"
	"slices"
)

// Pod is one sandbox that runs.
type Pod struct {
	ID                   string // of the sandbox: CNI_CONTAINERID
	Namespace, Name, UID string // empty where the runtime does not say
	Annotations          map[string]string
	Unsure               bool   // Annotations may be others by now: nobody should decide by them
	Cgroup               string // as the runtime writes it, like runtimeConfig.cgroupPath; empty: unknown
	NetNS                string // path; empty: unknown, or the host's
	HostNetwork          bool
	From                 string // which source knows it: FromCRI, FromCache or FromProcesses
	Attachments          []Attachment
}

// The sources. What only processes show may be anything that has a network namespace: whoever adopts it must know it.
const (
	FromCRI       = "CRI"
	FromCache     = "libcni's cache"
	FromProcesses = "processes"
)

// Attachment is one interface that a runtime has had made for a pod.
type Attachment struct{ Network, IfName string }

// String is how people call it.
func (p Pod) String() string {
	switch {
	case p.Namespace != "" && p.Name != "":
		return p.Namespace + "/" + p.Name
	case p.Name != "":
		return p.Name
	}
	return p.ID
}

// merge makes one list of several sources' lists, sorted by names. What the first that knows a sandbox leaves empty, the
// others fill in.
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
