// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"math"
	"strconv"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

const sortPod = "pod"

// attachmentOrder sorts attachments by the columns of their table, and by what only the document has.
var attachmentOrder = live.Order[attachmentView]{
	Usual: compareAttachments,
	Keys: map[string]func(a, b *attachmentView) int{
		sortPod:      nil,
		"container":  live.ByText(func(v *attachmentView) string { return v.Container }),
		"interface":  live.ByText(func(v *attachmentView) string { return v.Interface }),
		"network":    live.ByText(func(v *attachmentView) string { return v.Network }),
		"cgroup":     live.ByText(func(v *attachmentView) string { return v.CgroupPath }),
		"state":      live.ByText(func(v *attachmentView) string { return v.State }),
		"netns":      live.Most(func(v *attachmentView) uint64 { return v.NetNSCookie }),
		"sockets":    live.Most(func(v *attachmentView) int { return v.Sockets }),
		"redirected": live.Most(func(v *attachmentView) uint64 { return v.RedirectedBytes }),
		"tcp":        live.Most(func(v *attachmentView) uint64 { return v.TCPBytes }),
		"age":        live.Most((*attachmentView).since),
	},
}

func compareAttachments(a, b *attachmentView) int {
	return cmp.Or(
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod),
		cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container),
		cmp.Compare(a.Interface, b.Interface),
	)
}

// since is larger for older attachments. Pods that the plugin was never called for have no time, and come
// last.
func (v *attachmentView) since() float64 {
	if v.Created.IsZero() {
		return math.Inf(-1)
	}
	return -float64(v.Created.UnixNano())
}

func attachmentTable(attachments []attachmentView) *term.Table {
	t := &term.Table{Columns: []term.Column{
		{Title: "POD", Min: 14, KeepEnd: true},
		{Title: "CONTAINER", Drop: 1},
		{Title: "IF", Drop: 2},
		{Title: "NETWORK", Min: 7, Drop: 3},
		{Title: "CGROUP", Min: 16, KeepEnd: true, Drop: 4},
		{Title: "NETNS", Right: true, Drop: 5},
		{Title: "SOCKETS", Right: true},
		{Title: "REDIRECTED", Right: true},
		{Title: "ACCELERATED", Min: 16},
	}}
	for _, e := range attachments {
		pod, state, cookie := "", "yes", ""
		if e.Pod != "" {
			pod = e.Namespace + "/" + e.Pod
		}
		if !e.Accelerated {
			state = "no: " + e.Declined
		}
		if e.Dead != "" {
			state = "no, dead: " + e.Dead
		}
		switch {
		case datapath.IsHostKey(e.NetNSCookie):
			cookie = "host"
		case e.NetNSCookie != 0:
			cookie = strconv.FormatUint(e.NetNSCookie, 10)
		}
		t.Add(pod, live.ShortID(e.Container), e.Interface, e.Network, e.CgroupPath, cookie,
			strconv.Itoa(e.Sockets), term.CompactBytes(e.RedirectedBytes), state)
	}
	return t
}
