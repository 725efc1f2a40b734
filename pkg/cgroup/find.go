// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
)

// Source names where the cgroup of a container was learned from. Attachments record it in 31 bytes, see
// datapath.MaxCgroupSource.
type Source string

// The sources, in the order in which Find asks them.
const (
	SourceConfiguration Source = "configuration"
	SourceRuntime       Source = "runtimeConfig.cgroupPath"
	SourcePodUID        Source = "K8S_POD_UID"
	SourceNetNS         Source = "CNI_NETNS process"
	SourceRoot          Source = "cgroup2 root"
)

// sources are the ways in which runtimes identify the cgroup of a container, in the order in which Find tries
// them. To support another runtime, add a constant above and a row at the end: the part of the request that
// the runtime provides, and a function that returns the cgroup. For a path relative to the mount that is
// known, that is t.use, and t.firstUsable for a few; both refuse a path that leads out of the mount. A longer
// search has a file of its own.
var sources = []struct {
	name  Source
	value func(Request) string
	find  func(t *tree, value string) (candidate, error)
}{
	{SourceRuntime, func(r Request) string { return r.Runtime }, (*tree).byPath},
	{SourcePodUID, func(r Request) string { return r.PodUID }, (*tree).byPodUID},
	{SourceNetNS, func(r Request) string { return r.NetNS }, (*tree).byProcess},
}

// Sources lists all sources, in the order in which Find tries them.
func Sources() []Source {
	all := []Source{SourceConfiguration}
	for _, s := range sources {
		all = append(all, s.name)
	}
	return append(all, SourceRoot)
}

// Request is what a CNI plugin knows about the cgroup of its container. Fields that are not known are empty.
type Request struct {
	Explicit string // cgroupPath of the configuration: no other source replaces it
	Runtime  string // runtimeConfig.cgroupPath
	PodUID   string // K8S_POD_UID of CNI_ARGS
	NetNS    string // CNI_NETNS
	// ContainerID is CNI_CONTAINERID, the sandbox. No source uses it today: podman creates the cgroups that are
	// named after it only when its ADD is over.
	ContainerID string
}

// Found is the cgroup to attach to.
type Found struct {
	Path   string // absolute, below the mount
	ID     uint64 // cgroup ID of the kernel
	Source Source
	Root   bool     // it is the root of the mount, which contains every process of the node
	Notes  []string // for the log: why each earlier source was not used
}

// errNotGiven is the note on a source for which the runtime provides no value.
var errNotGiven = errors.New("not given")

// Find finds the cgroup of a container. For a container of a pod it is the cgroup of the pod, which contains
// all containers of the network namespace. The sources are tried in the order of the Source constants. An
// error of a source is added to the notes and the next source is tried; the last one is the root of m.
//
// Only a configured cgroup that cannot be used is an error: fs.ErrNotExist, ErrRoot, ErrOwn or another
// refusal. If m is not cgroup2, Find returns ErrNotCgroup2.
func Find(m Mount, r Request) (Found, error) {
	t, err := openTree(m)
	if err != nil {
		return Found{}, err
	}
	defer t.close()
	if r.Explicit != "" {
		c, err := t.byPath(r.Explicit)
		if err != nil {
			return Found{}, fmt.Errorf("use configured cgroupPath %q: %w (correct it, or leave it out to have the "+
				"cgroup found)",
				r.Explicit, err)
		}
		return c.found(SourceConfiguration, t.notes), nil
	}
	var notes []string
	for _, s := range sources {
		err := errNotGiven
		if value := s.value(r); value != "" {
			var c candidate
			if c, err = s.find(t, value); err == nil {
				return c.found(s.name, append(notes, t.notes...)), nil
			}
		}
		notes = append(notes, fmt.Sprintf("%s: %v", s.name, err))
	}
	f := candidate{path: m.Path, id: t.rootID}.found(SourceRoot, append(notes, t.notes...))
	f.Root = true
	return f, nil
}

func (c candidate) found(s Source, notes []string) Found {
	return Found{Path: c.path, ID: c.id, Source: s, Notes: notes}
}
