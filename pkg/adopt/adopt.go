// SPDX-License-Identifier: Apache-2.0

// Package adopt gives containers that run what their ADD would have given them: the record under the same key, so that the
// runtime's DEL removes it, the link, and the policy. A runtime that calls DEL by the list as it was at ADD (CRI-O, podman) does
// not know the plugin there: such a record is left to the reaper. Their connections stay as they are; new ones are accelerated.
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

// State says how a pod stands.
type State string

// The states.
const (
	Accelerated State = "accelerated"
	Declined    State = "declined"  // an ADD, or an adoption, has recorded why
	OptedOut    State = "opted-out" // by annotation or configuration, or switched off by a person
	LeftOut     State = "left-out"  // the plugin was never called for it
)

// Why a pod is left out.
const (
	ReasonOlder       = "older"         // than the installation: it can be adopted
	ReasonHostNetwork = "host-network"  // it has no network namespace of its own
	ReasonOtherList   = "other-network" // no network of it has the plugin in its list
	ReasonNoNetNS     = "no-netns"      // its network namespace is not known, or cannot be seen from here
)

// Reasons lists for each state the reasons that a pod can have for it, as Standing.Reason has them.
func Reasons() map[State][]string {
	all := map[State][]string{
		Accelerated: {""},
		LeftOut:     {ReasonOlder, ReasonHostNetwork, ReasonOtherList, ReasonNoNetNS},
	}
	for _, r := range decline.OfContainers() {
		state := Declined
		if isChosen(r) {
			state = OptedOut
		}
		all[state] = append(all[state], r.String())
	}
	return all
}

// isChosen tells the reasons that somebody has chosen.
func isChosen(r decline.Reason) bool {
	return r == decline.OptedOut || r == decline.OptedOutElsewhere || r == decline.SwitchedOff
}

// words say why a pod is left out, and what can be done about it.
var leftOutTexts = map[string]string{
	ReasonOlder:       "it ran before sockmap was in the list of its network: sockmapctl adopt, or make it anew",
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

// PodStatus is how one pod stands.
type PodStatus struct {
	pods.Pod
	State   State
	Reason  string // one of the reasons above, or a decline.Reason; empty for an accelerated pod
	Detail  string // in words; may be empty
	Adopted bool   // by this call
}

// Adopter looks at what runs, and adopts.
type Adopter struct {
	Find func(context.Context) ([]pods.Pod, error)
	// Runs tells whether a sandbox that CRI has listed runs now. nil: nobody can be asked, and the reaper finds out.
	Runs func(ctx context.Context, id string) (bool, error)
	// Confs are the plugin's entries in the networks of this node as they are now, without those that have a wrong value, which
	// the error names.
	Confs func() ([]*cniconf.Conf, error)
	Node  func(*cniconf.Conf) *endpoint.Node
	Log   *slog.Logger

	failed map[string]failure // the last one of each sandbox
}

// failure is an adoption that failed, and is not tried again for a while.
type failure struct {
	why  string
	next time.Time
}

// tryAgain is how long a sandbox is left alone whose adoption has failed.
const retryAfter = time.Minute

// nodeState is one look at the node: what runs, what is configured, what is recorded.
type nodeState struct {
	pods        []pods.Pod
	confs       []*cniconf.Conf
	attachments map[string][]endpoint.Attachment // by sandbox
}

// read reads what it can in spite of the error.
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

// Status tells how all pods stand, and changes nothing. What could be read comes in spite of the error.
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

// readAttachments are those of all state directories that entries name, by the sandbox.
func (a *Adopter) readAttachments(ctx context.Context, confs []*cniconf.Conf) (map[string][]endpoint.Attachment, error) {
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

// withAttachments is by the record that says most against acceleration: any of them keeps the pod on TCP.
func (s PodStatus) withAttachments(own []endpoint.Attachment) PodStatus {
	rank := []State{Accelerated, Declined, OptedOut}
	for _, r := range own {
		if state := StateOf(r); s.State == LeftOut || slices.Index(rank, state) > slices.Index(rank, s.State) {
			s.State, s.Reason, s.Detail = state, r.WhyNot().String(), r.Declined
		}
	}
	return s
}

// StateOf is how the sandbox of a record stands.
func StateOf(r endpoint.Attachment) State {
	switch {
	case r.Accelerated():
		return Accelerated
	case isChosen(r.WhyNot()):
		return OptedOut
	}
	return Declined
}

// configuredAttachment is one interface of a pod, and the entry that its network has.
type configuredAttachment struct {
	pods.Attachment
	conf *cniconf.Conf
}

// attachmentsOf are those whose network has the plugin in its list. Of a pod whose networks nobody knows it is taken that it is
// in the only one with an entry, by the interface that all runtimes call the first.
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
		all = append(all, configuredAttachment{pods.Attachment{Network: confs[0].Name, IfName: firstInterface}, confs[0]})
	}
	return all
}

const firstInterface = "eth0"

// optsInHostNetwork tells whether a pod with hostNetwork has chosen to take part.
func optsInHostNetwork(p pods.Pod) bool { return p.Annotations[cniconf.AnnotationAccelerate] == "true" }

// hostAttachment is that of a pod with hostNetwork. No network is its own: it is treated as the pods of the first network are,
// but takes part by choice only.
func hostAttachment(confs []*cniconf.Conf) []configuredAttachment {
	if len(confs) == 0 {
		return nil
	}
	return []configuredAttachment{{pods.Attachment{Network: endpoint.HostNetwork, IfName: endpoint.HostNetwork}, confs[0]}}
}

// StatusOf is Look, of the pods that wanted chooses.
func (a *Adopter) StatusOf(ctx context.Context, wanted func(pods.Pod) bool) ([]PodStatus, error) {
	all, err := a.Status(ctx)
	return slices.DeleteFunc(all, func(s PodStatus) bool { return !wanted(s.Pod) }), err
}

// Adopt adopts the pods that wanted chooses and that are left out as older than the installation, and tells how all that it
// chooses stand then. It goes on after errors of single pods, which their standing has.
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
	// What reports success has looked.
	attachments, errRecords := a.readAttachments(ctx, l.confs)
	for _, i := range order {
		after := statusOf(all[i].Pod, l.confs, attachments)
		after.Detail = cmp.Or(after.Detail, all[i].Detail)
		after.Adopted = after.State != LeftOut
		all[i] = after
	}
	return all, errors.Join(err, errRecords)
}

// adoptable gives the indices of those that can be adopted. Those that have opted out come last: that is recorded only where the
// programs are loaded, which the others see to.
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

// wantsAcceleration tells whether any of its networks' entries, with its annotations, wants the pod accelerated.
func (l nodeState) wantsAcceleration(p pods.Pod) bool {
	return slices.ContainsFunc(attachmentsOf(p, l.confs), func(at configuredAttachment) bool {
		on, _ := at.conf.ForPod(p.Annotations, p.Cgroup).Accelerate()
		return on && (!p.HostNetwork || optsInHostNetwork(p))
	})
}

// dropOldFailures forgets the failures of sandboxes that run no more.
func (a *Adopter) dropOldFailures(found []pods.Pod) {
	for id := range a.failed {
		if !slices.ContainsFunc(found, func(p pods.Pod) bool { return p.ID == id }) {
			delete(a.failed, id)
		}
	}
}

// adoptUnlessFailed is adopt, but for a sandbox whose adoption has just failed. The same failure is logged once.
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

// adoptPod goes the way of the pod's ADDs. It returns what kept it from it, in words.
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

// call is what the ADD of one interface of a pod would be now.
func (a *Adopter) call(p pods.Pod, at configuredAttachment) (admit.Call, endpoint.Sandbox) {
	conf := at.conf.ForPod(p.Annotations, p.Cgroup)
	if p.HostNetwork {
		conf.Enabled = false // before the annotation, which alone can say so
	}
	sb := endpoint.Sandbox{
		Network: at.Network, ContainerID: p.ID, IfName: at.IfName, NetNSPath: p.NetNS,
		PodNamespace: p.Namespace, PodName: p.Name, PodUID: p.UID, HostNetwork: p.HostNetwork,
	}
	log := a.Log.With("pod", p.String(), "container", p.ID)
	return admit.Call{Conf: conf, Node: a.Node(conf), Log: log, Running: true}, sb
}

var errEnded = errors.New("it ended meanwhile")

// takeBack removes what was made for a pod whose DEL came before it was recorded, and found nothing. Only the runtime that has
// listed the pod is asked: another one knows it no more than it knows a pod that has ended.
func (a *Adopter) takeBack(ctx context.Context, p pods.Pod, node *endpoint.Node, sb endpoint.Sandbox) error {
	if a.Runs == nil || p.From != pods.FromCRI {
		return nil
	}
	runs, err := a.Runs(ctx, sb.ContainerID)
	if err != nil || runs {
		return nil // the reaper finds out
	}
	if err := node.Del(ctx, sb.Network, sb.ContainerID, sb.IfName); err != nil {
		return err
	}
	return errEnded
}
