// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Owner is the container behind a network namespace.
type Owner struct{ Namespace, Pod, Container string }

// Owners finds containers by netns cookie.
type Owners map[uint64]Owner

func ReadOwners(d *datapath.Datapath) (Owners, error) {
	attachments, err := d.Attachments()
	if err != nil {
		return nil, err
	}
	all := Owners{}
	for _, a := range attachments {
		o := Owner{a.PodNamespace, a.PodName, a.ContainerID}
		// A container in several networks has several attachments. The choice must not depend on the order of
		// a map.
		if known, ok := all[a.NetNSCookie]; a.NetNSCookie != 0 && (!ok || compareOwners(o, known) < 0) {
			all[a.NetNSCookie] = o
		}
	}
	return all, nil
}

func compareOwners(a, b Owner) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod),
		cmp.Compare(a.Container, b.Container))
}

// Label is the best known name for the owner of a network namespace.
func (o Owners) Label(cookie uint64) string {
	own := o[cookie]
	switch {
	case own.Pod != "":
		return own.Namespace + "/" + own.Pod
	case own.Container != "":
		return ShortID(own.Container)
	case cookie != 0:
		return fmt.Sprintf("netns:%d", cookie)
	}
	return ""
}

// labels is Label for many flows of few owners.
func (o Owners) labels() func(cookie uint64) string {
	known := map[uint64]string{}
	return func(cookie uint64) string {
		text, ok := known[cookie]
		if !ok {
			text = o.Label(cookie)
			known[cookie] = text
		}
		return text
	}
}

// ShortID shortens a container id as runtimes do.
func ShortID(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

func PodName(namespace, pod string) string {
	if pod == "" {
		return ""
	}
	return namespace + "/" + pod
}
