// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
)

// Source says where the cgroup of a container was learnt from.
type Source string

// The sources, in the order in which Find asks them.
const (
	SourceConfiguration Source = "configuration"
	SourceRuntime       Source = "runtimeConfig.cgroupPath"
	SourcePodUID        Source = "K8S_POD_UID"
	SourceNetNS         Source = "CNI_NETNS process"
	SourceRoot          Source = "cgroup2 root"
)

// Request is what a CNI plugin knows about the cgroup of its container. Empty
// fields are not known.
type Request struct {
	Explicit string // configuration: the operator's word, which nothing else replaces
	Runtime  string // runtimeConfig.cgroupPath
	PodUID   string // K8S_POD_UID of CNI_ARGS
	NetNS    string // CNI_NETNS
	// ContainerID is CNI_CONTAINERID. No source needs it today: the names that
	// podman makes of it do not exist before its ADD is over.
	ContainerID string
}

// Found is the cgroup to attach to.
type Found struct {
	Path   string // absolute, below the mount
	ID     uint64 // the kernel's cgroup id
	Source Source
	Root   bool // the root of the mount: it has every process of the node in it
	// Notes say, in words for the log, why earlier sources did not serve.
	Notes []string
}

// errNotGiven is the note on a source that the runtime does not feed.
var errNotGiven = errors.New("not given")

// Find finds the cgroup of a container: that of its pod where there is one, as
// it holds all containers of the network namespace. The order is that of the
// Source constants. What a source other than the configuration gets wrong ends
// up in the notes and the next one is asked; the root of m is the last.
//
// A configured cgroup that cannot be used is an error: fs.ErrNotExist, ErrRoot,
// ErrOwn or another refusal. So is an m that is not cgroup2.
func Find(m Mount, r Request) (Found, error) {
	t, err := openTree(m)
	if err != nil {
		return Found{}, err
	}
	defer t.close()
	if r.Explicit != "" {
		p, err := t.byPath(r.Explicit)
		if err != nil {
			return Found{}, fmt.Errorf("use configured cgroupPath %q: %w (correct it, or leave it out to have the cgroup found)", r.Explicit, err)
		}
		return p.found(SourceConfiguration, t.notes), nil
	}
	var notes []string
	for _, s := range []struct {
		name  Source
		value string
		find  func(string) (candidate, error)
	}{
		{SourceRuntime, r.Runtime, t.byPath},
		{SourcePodUID, r.PodUID, t.byPodUID},
		{SourceNetNS, r.NetNS, t.byProcess},
	} {
		err := errNotGiven
		if s.value != "" {
			var p candidate
			if p, err = s.find(s.value); err == nil {
				return p.found(s.name, append(notes, t.notes...)), nil
			}
		}
		notes = append(notes, fmt.Sprintf("%s: %v", s.name, err))
	}
	f := candidate{path: m.Path, id: t.rootID}.found(SourceRoot, append(notes, t.notes...))
	f.Root = true
	return f, nil
}

func (p candidate) found(s Source, notes []string) Found {
	return Found{Path: p.path, ID: p.id, Source: s, Notes: notes}
}
