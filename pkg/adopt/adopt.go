// SPDX-License-Identifier: Apache-2.0

// Package adopt accelerates containers that were started before the installation. It does what their ADD
// would have done: it records the attachment under the same key, so that the runtime's DEL removes it, and
// makes the link and the endpoint. Existing connections stay as they are; new ones are accelerated.
//
// Some runtimes (CRI-O, podman) call DEL with the list as it was at ADD, in which the plugin is missing. The
// reaper removes such an attachment.
package adopt

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/admit"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
)

// State is how a pod is treated.
type State string

// The states.
const (
	Accelerated State = decline.StateAccelerated
	Declined    State = decline.StateDeclined // an ADD or an adoption has recorded the reason
	OptedOut    State = decline.StateOptedOut // by annotation or configuration, or switched off by a user
	LeftOut     State = "left-out"            // the plugin was never called for it
)

// Why a pod is left out.
const (
	ReasonOlder       = "older"         // older than the installation: it can be adopted
	ReasonHostNetwork = "host-network"  // it has no network namespace of its own
	ReasonOtherList   = "other-network" // none of its networks has the plugin in its list
	ReasonNoNetNS     = "no-netns"      // its network namespace is unknown or not visible from here
)

// Reasons lists for each state the values that PodStatus.Reason can have.
func Reasons() map[State][]string {
	all := map[State][]string{
		Accelerated: {""},
		LeftOut:     {ReasonOlder, ReasonHostNetwork, ReasonOtherList, ReasonNoNetNS},
	}
	for _, r := range decline.OfContainers() {
		state := State(r.State())
		all[state] = append(all[state], r.String())
	}
	return all
}

// leftOutTexts say why a pod is left out, and what to do about it.
var leftOutTexts = map[string]string{
	ReasonOlder: "it was started before sockmap was in the list of its network: " +
		"sockmapctl adopt, or restart it",
	ReasonHostNetwork: `it uses the network of the host, and has no annotation sockmap-cni/accelerate: "true"`,
	ReasonOtherList:   "no network of it has sockmap in its list",
	ReasonNoNetNS:     "its network namespace cannot be seen from here",
}

// Why says in words why the pod is not accelerated; empty: it is.
func (s PodStatus) Why() string {
	switch {
	case s.Detail != "":
		return s.Detail
	case leftOutTexts[s.Reason] != "":
		return leftOutTexts[s.Reason]
	}
	return s.Reason
}

// PodStatus says whether one pod is accelerated, and why not.
type PodStatus struct {
	pods.Pod
	State   State
	Reason  string // one of the reasons above, or a decline.Reason; empty for an accelerated pod
	Detail  string // in words; may be empty
	Adopted bool   // by this call
}

// Adopter reads the state of running pods, and adopts them.
type Adopter struct {
	Find func(context.Context) ([]pods.Pod, error)
	// Runs reports whether a sandbox that CRI has listed is still running. nil: no runtime can be asked, and
	// the reaper finds out.
	Runs func(ctx context.Context, id string) (bool, error)
	// Confs returns the plugin's current entries in the networks of this node. Entries with a wrong value are
	// missing, and the error names them.
	Confs func() ([]*cniconf.Conf, error)
	Node  func(*cniconf.Conf) *endpoint.Node
	Log   *slog.Logger

	failed map[string]failure // last failure by sandbox ID
}

// failure is a failed adoption, and when it may be tried again.
type failure struct {
	why  string
	next time.Time
}

// retryAfter is how long a failed adoption is not repeated.
const retryAfter = time.Minute

// nodeState is what runs, what is configured and what is recorded.
type nodeState struct {
	pods        []pods.Pod
	confs       []*cniconf.Conf
	attachments map[string][]endpoint.Attachment // by sandbox ID
}

// read reads the state of the node. After an error it returns what it could read.
func (a *Adopter) read(ctx context.Context) (nodeState, error) {
	var (
		l                             nodeState
		errConfs, errFind, errRecords error
	)
	l.confs, errConfs = a.Confs()
	l.pods, errFind = a.Find(ctx)
	l.attachments, errRecords = a.readAttachments(ctx, l.confs)
	return l, errors.Join(errConfs, errFind, errRecords)
}

// Status returns the status of all pods, and changes nothing. After an error it returns what it could read.
func (a *Adopter) Status(ctx context.Context) ([]PodStatus, error) {
	l, err := a.read(ctx)
	return l.statuses(), err
}

func (l nodeState) statuses() []PodStatus {
	all := make([]PodStatus, 0, len(l.pods))
	for _, p := range l.pods {
		all = append(all, statusOf(p, l.confs, l.attachments))
	}
	return all
}

// readAttachments reads the attachments from all state directories that entries name, by sandbox ID.
func (a *Adopter) readAttachments(ctx context.Context,
	confs []*cniconf.Conf) (map[string][]endpoint.Attachment, error) {
	all := map[string][]endpoint.Attachment{}
	var errs []error
	seen := map[string]bool{}
	for _, conf := range confs {
		node := a.Node(conf)
		if seen[node.Dir] {
			continue
		}
		seen[node.Dir] = true
		attachments, err := node.Attachments(ctx)
		if err != nil && !errors.Is(err, datapath.ErrNotLoaded) {
			errs = append(errs, err)
		}
		for _, r := range attachments {
			all[r.ContainerID] = append(all[r.ContainerID], r)
		}
	}
	return all, errors.Join(errs...)
}

func statusOf(p pods.Pod, confs []*cniconf.Conf, attachments map[string][]endpoint.Attachment) PodStatus {
	s := PodStatus{Pod: p, State: LeftOut}
	if own := attachments[p.ID]; len(own) > 0 {
		return s.withAttachments(own)
	}
	switch {
	case p.HostNetwork && !optsInHostNetwork(p):
		s.Reason = ReasonHostNetwork
	case p.NetNS == "" && !p.HostNetwork:
		s.Reason = ReasonNoNetNS
	case len(attachmentsOf(p, confs)) == 0:
		s.Reason = ReasonOtherList
	default:
		s.Reason = ReasonOlder
	}
	return s
}

// withAttachments derives the status from the attachments of the pod. The one that is furthest from
// acceleration decides, as any of them keeps the pod on TCP.
func (s PodStatus) withAttachments(own []endpoint.Attachment) PodStatus {
	rank := []State{Accelerated, Declined, OptedOut}
	for _, r := range own {
		if state := StateOf(r); s.State == LeftOut || slices.Index(rank, state) > slices.Index(rank, s.State) {
			s.State, s.Reason, s.Detail = state, r.WhyNot().String(), r.Declined
		}
	}
	return s
}

// StateOf is the state of the sandbox of one attachment.
func StateOf(r endpoint.Attachment) State { return State(r.WhyNot().State()) }

// configuredAttachment is one interface of a pod, and the plugin's entry in the list of its network.
type configuredAttachment struct {
	pods.Attachment
	conf *cniconf.Conf
}

// attachmentsOf returns the attachments of a pod whose networks have the plugin in their lists. If the
// networks of a pod are unknown, and only one network has an entry, the pod is assumed to be in that one,
// with the interface name that all runtimes use first.
func attachmentsOf(p pods.Pod, confs []*cniconf.Conf) (all []configuredAttachment) {
	if p.HostNetwork {
		return hostAttachment(confs)
	}
	for _, at := range p.Attachments {
		i := slices.IndexFunc(confs, func(c *cniconf.Conf) bool { return c.Name == at.Network })
		if i >= 0 {
			all = append(all, configuredAttachment{at, confs[i]})
		}
	}
	if len(p.Attachments) == 0 && len(confs) == 1 {
		all = append(all, configuredAttachment{pods.Attachment{Network: confs[0].Name, IfName: firstInterface},
			confs[0]})
	}
	return all
}

const firstInterface = "eth0"

// optsInHostNetwork reports whether a pod with hostNetwork has asked for acceleration.
func optsInHostNetwork(p pods.Pod) bool { return p.Annotations[cniconf.AnnotationAccelerate] == "true" }

// hostAttachment is the attachment of a pod with hostNetwork. It belongs to no network, so it uses the entry
// of the first one. Such a pod is accelerated only if its annotation asks for it.
func hostAttachment(confs []*cniconf.Conf) []configuredAttachment {
	if len(confs) == 0 {
		return nil
	}
	return []configuredAttachment{{pods.Attachment{Network: endpoint.HostNetwork, IfName: endpoint.HostNetwork},
		confs[0]}}
}

// StatusOf is Status for the pods that wanted selects.
func (a *Adopter) StatusOf(ctx context.Context, wanted func(pods.Pod) bool) ([]PodStatus, error) {
	all, err := a.Status(ctx)
	return slices.DeleteFunc(all, func(s PodStatus) bool { return !wanted(s.Pod) }), err
}

// Adopt adopts those pods that wanted selects and that are older than the installation. It returns the status
// that all selected pods have then. It continues after errors of single pods, which are in their status.
func (a *Adopter) Adopt(ctx context.Context, wanted func(pods.Pod) bool) ([]PodStatus, error) {
	l, err := a.read(ctx)
	a.dropOldFailures(l.pods)
	all := slices.DeleteFunc(l.statuses(), func(s PodStatus) bool { return !wanted(s.Pod) })
	order := l.adoptable(all)
	for _, i := range order {
		if ctx.Err() != nil {
			return all, errors.Join(err, ctx.Err())
		}
		all[i].Detail = a.adoptUnlessFailed(ctx, all[i].Pod, l.confs)
	}
	if len(order) == 0 {
		return all, err
	}
	// Read again, so that the status shows what was really made.
	attachments, errRecords := a.readAttachments(ctx, l.confs)
	for _, i := range order {
		after := statusOf(all[i].Pod, l.confs, attachments)
		after.Detail = cmp.Or(after.Detail, all[i].Detail)
		after.Adopted = after.State != LeftOut
		all[i] = after
	}
	return all, errors.Join(err, errRecords)
}

// adoptable returns the indices of the pods that can be adopted. Pods that have opted out come last: an
// opt-out is recorded only if the programs are loaded, and adopting the others loads them.
func (l nodeState) adoptable(all []PodStatus) (order []int) {
	var out []int
	for i, s := range all {
		switch {
		case s.Reason != ReasonOlder, s.Unsure:
		case l.wantsAcceleration(s.Pod):
			order = append(order, i)
		default:
			out = append(out, i)
		}
	}
	return append(order, out...)
}

// wantsAcceleration reports whether any entry of the pod's networks, with the pod's annotations, asks for
// acceleration.
func (l nodeState) wantsAcceleration(p pods.Pod) bool {
	return slices.ContainsFunc(attachmentsOf(p, l.confs), func(at configuredAttachment) bool {
		on, _ := at.conf.ForPod(p.Annotations, p.Cgroup).Accelerate()
		return on && (!p.HostNetwork || optsInHostNetwork(p))
	})
}

// dropOldFailures forgets the failures of sandboxes that do not run any more.
func (a *Adopter) dropOldFailures(found []pods.Pod) {
	for id := range a.failed {
		if !slices.ContainsFunc(found, func(p pods.Pod) bool { return p.ID == id }) {
			delete(a.failed, id)
		}
	}
}

// adoptUnlessFailed is adoptPod, but does not repeat an adoption that has just failed. It logs the same
// failure once.
func (a *Adopter) adoptUnlessFailed(ctx context.Context, p pods.Pod, confs []*cniconf.Conf) (why string) {
	before := a.failed[p.ID]
	if time.Now().Before(before.next) {
		return before.why
	}
	why = a.adoptPod(ctx, p, confs)
	if why == "" {
		delete(a.failed, p.ID)
		return ""
	}
	if why != before.why {
		a.Log.Warn("a running pod is not adopted", "pod", p.String(), "container", p.ID, "reason", why)
	}
	if a.failed == nil {
		a.failed = map[string]failure{}
	}
	a.failed[p.ID] = failure{why, time.Now().Add(retryAfter)}
	return why
}

// adoptPod does what the ADDs of the pod would have done. It returns what prevented it, in words, or "".
func (a *Adopter) adoptPod(ctx context.Context, p pods.Pod, confs []*cniconf.Conf) (why string) {
	for _, at := range attachmentsOf(p, confs) {
		call, sb := a.call(p, at)
		for _, warning := range call.Conf.Warnings {
			call.Log.Warn(warning)
		}
		node := call.Node
		if err := call.Apply(ctx, sb); err != nil {
			why = err.Error()
			continue
		}
		if err := a.takeBack(ctx, p, node, sb); err != nil {
			why = err.Error()
		}
	}
	return why
}

// call returns the call that the ADD of one interface of a pod would be now.
func (a *Adopter) call(p pods.Pod, at configuredAttachment) (admit.Call, endpoint.Sandbox) {
	conf := at.conf.ForPod(p.Annotations, p.Cgroup)
	if p.HostNetwork {
		conf.Enabled = false // only the annotation can enable it
	}
	sb := endpoint.Sandbox{
		Network: at.Network, ContainerID: p.ID, IfName: at.IfName, NetNSPath: p.NetNS,
		PodNamespace: p.Namespace, PodName: p.Name, PodUID: p.UID, HostNetwork: p.HostNetwork,
	}
	log := a.Log.With("pod", p.String(), "container", p.ID)
	return admit.Call{Conf: conf, Node: a.Node(conf), Log: log, Running: true}, sb
}

var errEnded = errors.New("it ended meanwhile")

// takeBack removes an attachment that was recorded after the DEL of its pod, which then found nothing. It
// asks only the runtime that has listed the pod, because another one does not know the pod in any case.
func (a *Adopter) takeBack(ctx context.Context, p pods.Pod, node *endpoint.Node, sb endpoint.Sandbox) error {
	if a.Runs == nil || p.From != pods.FromCRI {
		return nil
	}
	runs, err := a.Runs(ctx, sb.ContainerID)
	if err != nil || runs {
		return nil // the reaper removes it if necessary
	}
	if err := node.Del(ctx, sb.Network, sb.ContainerID, sb.IfName); err != nil {
		return err
	}
	return errEnded
}
