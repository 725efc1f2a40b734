// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// owner is the container behind a network namespace.
type owner struct{ namespace, pod, container string }

// owners finds containers by netns cookie.
type owners map[uint64]owner

func readOwners(d *datapath.Datapath) (owners, error) {
	attachments, err := d.Attachments()
	if err != nil {
		return nil, err
	}
	all := owners{}
	for _, a := range attachments {
		o := owner{a.PodNamespace, a.PodName, a.ContainerID}
		// A container in several networks has several attachments. Which one is taken must not depend on the order
		// of a map.
		if known, ok := all[a.NetNSCookie]; a.NetNSCookie != 0 && (!ok || compareOwners(o, known) < 0) {
			all[a.NetNSCookie] = o
		}
	}
	return all, nil
}

func compareOwners(a, b owner) int {
	return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.pod, b.pod), cmp.Compare(a.container, b.container))
}

// label is what a table has for the owner of a network namespace: the best name that is known.
func (o owners) label(cookie uint64) string {
	own := o[cookie]
	switch {
	case own.pod != "":
		return own.namespace + "/" + own.pod
	case own.container != "":
		return shortID(own.container)
	case cookie != 0:
		return fmt.Sprintf("netns:%d", cookie)
	}
	return ""
}

// labels is label for many flows of few owners.
func (o owners) labels() func(cookie uint64) string {
	known := map[uint64]string{}
	return func(cookie uint64) string {
		text, ok := known[cookie]
		if !ok {
			text = o.label(cookie)
			known[cookie] = text
		}
		return text
	}
}

// shortID is how runtimes show container ids.
func shortID(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
