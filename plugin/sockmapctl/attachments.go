// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/world"
	"github.com/spf13/cobra"
)

// attachmentView is one CNI attachment.
type attachmentView struct {
	Namespace       string    `json:"namespace" doc:"namespace of the pod; empty when there is no pod"`
	Pod             string    `json:"pod" doc:"name of the pod; empty when there is no pod"`
	Container       string    `json:"container" doc:"id of the pod sandbox"`
	Interface       string    `json:"interface" doc:"CNI_IFNAME"`
	Network         string    `json:"network" doc:"name of the conflist"`
	NetNSPath       string    `json:"netnsPath" doc:"CNI_NETNS at the time of the ADD"`
	NetNSCookie     uint64    `json:"netnsCookie" doc:"of the network namespace; 0: it is not registered; for a pod with hostNetwork a key above 2^63"`
	CgroupID        uint64    `json:"cgroupId" doc:"id of the cgroup; 0: there is no link to a cgroup"`
	CgroupPath      string    `json:"cgroupPath" doc:"path of the cgroup; empty: there is no link, or the cgroup no longer exists"`
	CgroupSource    string    `json:"cgroupSource" doc:"how the plugin found the cgroup"`
	State           string    `json:"state" doc:"accelerated, opted-out, declined or left-out"`
	Accelerated     bool      `json:"accelerated" doc:"state is accelerated: endpoint and link exist; sockmapctl disable without arguments does not change it"`
	Reason          string    `json:"reason" doc:"why it is not accelerated, as METRICS.md names it; empty when it is accelerated"`
	Declined        string    `json:"declined" doc:"the reason in words"`
	Dead            string    `json:"dead" doc:"why sockmapctl gc would remove the attachment; empty when it would not"`
	Created         time.Time `json:"created" doc:"time of the ADD"`
	Sockets         int       `json:"sockets" doc:"live sockets of the network namespace in the sockhash"`
	RedirectedBytes uint64    `json:"redirectedBytes" doc:"bytes redirected since the ADD, counted at the sender"`
	TCPBytes        uint64    `json:"tcpBytes" doc:"bytes sent over TCP since the ADD by sockets of the sockhash"`
}

func attachmentsCommand(a *app) *cobra.Command {
	var (
		all    bool
		f      podFlags
		filter live.Filter
		sort   string
	)
	cmd := a.withList(&cobra.Command{
		Use:     "attachments",
		Aliases: []string{"endpoints"},
		Short:   "List the containers that the plugin was called for",
		Long: `Lists the attachments of this node: one line for each container and network that
the plugin was called for, with the reason where it is not accelerated. The
attachments of one network namespace share its flows and bytes, so that each of
their lines has the sums of all.

With --all the list also has the pods that the plugin was never called for:
those that ran before the installation, and those that use the network of the
host or a network without sockmap. They come from the container runtime's CRI
socket and from libcni's cache.`,
		Example: `  sockmapctl attachments
  sockmapctl attachments --all -n shop
  sockmapctl attachments --sort-by redirected
  sockmapctl attachments -o json | jq '.items[] | select(.reason != "") | {pod, reason, declined}'`,
	})
	cmd.Flags().BoolVar(&all, "all", false, "also list pods that the plugin was never called for")
	a.filterFlags(cmd, &filter, live.ByOwner)
	sortFlag(cmd, &sort, attachmentOrder, sortPod)
	f.flags(a, cmd)
	return runs(cmd, func(cmd *cobra.Command) error {
		attachments, err := a.attachments(cmd.Context())
		if all && errors.Is(err, datapath.ErrNotLoaded) {
			err = nil // all that there are are left out
		}
		var problem error
		if all && err == nil {
			attachments, problem = a.withLeftOut(cmd.Context(), &f, attachments)
		}
		if err != nil {
			return fmt.Errorf("list attachments: %w", err)
		}
		attachments = slices.DeleteFunc(attachments,
			func(v attachmentView) bool { return !filter.Fits(v.subject()) })
		attachmentOrder.Sort(attachments, sort)
		return errors.Join(printList(a, listing[attachmentView]{
			kind: "Attachment", items: attachments,
			table: func() *term.Table { return attachmentTable(attachments) },
			name:  (*attachmentView).name,
		}), problem)
	})
}

// subject is the attachment as filters see it.
func (v *attachmentView) subject() *live.Subject {
	own := live.Owner{Namespace: v.Namespace, Pod: v.Pod, Container: v.Container}
	return &live.Subject{Ends: [2]live.End{{Owner: own, NetNS: v.NetNSCookie}}}
}

// name is the name that explain, policy and disable accept: the pod, or the container where there is no pod.
func (v *attachmentView) name() string {
	if v.Pod == "" {
		return v.Container
	}
	return live.PodName(v.Namespace, v.Pod)
}

// withLeftOut adds the pods that the plugin was not called for. An error means that some pods may be missing.
func (a *app) withLeftOut(
	ctx context.Context, f *podFlags, attachments []attachmentView,
) ([]attachmentView, error) {
	stood, err := a.standings(ctx, f)
	if err != nil {
		err = fmt.Errorf("list attachments: not all pods are seen: %w", err)
	}
	attachments = append([]attachmentView{}, attachments...)
	for _, s := range stood {
		if s.State == adopt.LeftOut {
			attachments = append(attachments, attachmentView{
				Namespace: s.Namespace, Pod: s.Name, Container: s.ID, NetNSPath: s.NetNS,
				State: string(s.State), Reason: s.Reason, Declined: s.Why(),
			})
		}
	}
	return attachments, err
}

func (a *app) attachments(ctx context.Context) ([]attachmentView, error) {
	d, err := datapath.Open(a.dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	attachments, err := a.node(datapath.Settings{}).Attachments(ctx)
	if err != nil {
		return nil, err
	}
	sums, err := readSums(d)
	if err != nil {
		return nil, err
	}
	views := make([]attachmentView, 0, len(attachments))
	for _, r := range attachments {
		views = append(views, newAttachmentView(r, sums[r.NetNSCookie]))
	}
	return views, nil
}

// sum adds up the sockets of one network namespace, closed and live.
type sum struct {
	sockets                   int
	redirectedBytes, tcpBytes uint64
}

func readSums(d *datapath.Datapath) (map[uint64]sum, error) {
	totals, err := d.PresentTotals()
	if err != nil {
		return nil, err
	}
	sums := make(map[uint64]sum, len(totals))
	for cookie, t := range totals {
		sums[cookie] = sum{0, t.RedirectedBytes, t.TCPBytes}
	}
	return sums, d.Flows(func(f datapath.Flow) bool {
		s := sums[f.NetNSCookie]
		sums[f.NetNSCookie] = sum{s.sockets + 1, s.redirectedBytes + f.RedirectedBytes,
			s.tcpBytes + f.TCPBytes}
		return true
	})
}

func newAttachmentView(r endpoint.Attachment, s sum) attachmentView {
	v := attachmentView{
		Namespace: r.PodNamespace, Pod: r.PodName, Container: r.ContainerID, Interface: r.IfName,
		Network:   r.Network,
		NetNSPath: r.NetNSPath, NetNSCookie: r.NetNSCookie,
		CgroupID: r.CgroupID, CgroupPath: r.CgroupPath, CgroupSource: r.CgroupSource,
		State:       string(adopt.StateOf(r)),
		Accelerated: r.Accelerated(), Reason: r.WhyNot().String(), Declined: world.WhyNot(r), Dead: r.Dead,
		Created: r.Created,
	}
	// Key 0 has the sums of all sockets without a registered endpoint.
	if r.NetNSCookie != 0 {
		v.Sockets, v.RedirectedBytes, v.TCPBytes = s.sockets, s.redirectedBytes, s.tcpBytes
	}
	return v
}
