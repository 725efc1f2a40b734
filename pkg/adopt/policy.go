// SPDX-License-Identifier: Apache-2.0

package adopt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/admit"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
)

// Policy is what is in force for one pod.
type Policy struct {
	Pod   pods.Pod
	Parts []Part
	// Pending are differences to its current configuration, each in words. The agent, or an adoption, applies
	// them.
	Pending []string
}

// Part is one part of a policy.
type Part struct {
	Key   string // key of the plugin's entry
	Value string
	From  []string // what the value comes from, in words
}

// Policies returns what is in force for the pods that wanted selects and that have an attachment. It changes
// nothing. After an error it returns what it could read.
func (a *Adopter) Policies(ctx context.Context, wanted func(pods.Pod) bool) ([]Policy, error) {
	l, err := a.read(ctx)
	var all []Policy
	errs := []error{err}
	for _, p := range l.pods {
		own := l.attachments[p.ID]
		if !wanted(p) || len(own) == 0 {
			continue
		}
		policy, err := a.policyOfPod(ctx, p, own, l.confs)
		errs = append(errs, err)
		all = append(all, policy)
	}
	return all, errors.Join(errs...)
}

func (a *Adopter) policyOfPod(ctx context.Context, p pods.Pod, own []endpoint.Attachment,
	confs []*cniconf.Conf) (Policy, error) {
	policy := Policy{Pod: p}
	w := policySources{attachments: own}
	for _, at := range attachmentsOf(p, confs) {
		attachment, ok := findAttachment(own, at)
		if !ok {
			continue
		}
		call, _ := a.call(p, at)
		w.confs = append(w.confs, call.Conf)
		differ, err := call.Differences(attachment)
		if err != nil {
			return policy, err
		}
		policy.Pending = append(policy.Pending, differ...)
		if w.switches, err = call.Node.Switches(ctx); err != nil {
			return policy, err
		}
		if w.is, w.registered, err = call.Node.PolicyOf(ctx, attachment.NetNSCookie); err != nil {
			return policy, err
		}
	}
	policy.Parts = w.parts()
	return policy, nil
}

// policySources is the input from which the parts of one pod's policy are described.
type policySources struct {
	attachments []endpoint.Attachment
	confs       []*cniconf.Conf
	switches    []datapath.Switch
	is          datapath.Policy
	registered  bool
}

func (w policySources) parts() []Part {
	on := w.registered && w.is.Accelerate
	parts := []Part{{"enabled", strconv.FormatBool(on), w.whoEnabled(on)}}
	if !w.registered {
		return parts
	}
	for _, key := range admit.PolicyKeys {
		who := w.networks(func(p datapath.Policy) bool { return key.From(p, w.is) })
		if key.Name == admit.PortsExclude {
			who = append(who, w.disabledPorts()...)
		}
		parts = append(parts, Part{key.Name, key.Text(w.is), who})
	}
	return append(parts, w.hazards())
}

// whoEnabled returns what decided whether the pod is accelerated. Whatever keeps it on TCP comes first.
func (w policySources) whoEnabled(on bool) (who []string) {
	for _, r := range w.attachments {
		switch why := r.WhyNot(); {
		case on || why == decline.None:
		case r.Declined != "":
			who = append(who, fmt.Sprintf("network %s: %s", r.Network, r.Declined))
		case r.SwitchedBy != "":
			return []string{disabledBy(r.SwitchedBy)}
		default:
			who = append(who, fmt.Sprintf("network %s: %s", r.Network, why))
		}
	}
	for _, conf := range w.confs {
		if _, source := conf.Accelerate(); on {
			who = append(who, fmt.Sprintf("network %s: %s", conf.Name, source))
		}
	}
	return who
}

func disabledBy(what string) string { return "sockmapctl disable: " + what }

// networks returns the networks whose attachments ask for the value that is in force.
func (w policySources) networks(same func(datapath.Policy) bool) (who []string) {
	for _, r := range w.attachments {
		if r.Policy != nil && r.Declined == "" && same(*r.Policy) {
			who = append(who, "network "+r.Network)
		}
	}
	return who
}

func (w policySources) disabledPorts() (who []string) {
	for _, s := range w.switches {
		if s.Kind == datapath.SwitchPort {
			who = append(who, disabledBy(s.String()))
		}
	}
	return who
}

// hazards are those that the pod has accepted.
func (w policySources) hazards() Part {
	part := Part{Key: "acceptHazards", Value: "none"}
	var names []string
	for _, conf := range w.confs {
		for _, name := range conf.HazardsAccepted() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if len(conf.AcceptHazards) > 0 {
			part.From = append(part.From, "network "+conf.Name)
		}
		if conf.Annotations[cniconf.AnnotationAcceptHazards] != "" {
			part.From = append(part.From, "annotation "+cniconf.AnnotationAcceptHazards)
		}
	}
	if len(names) > 0 {
		part.Value = strings.Join(names, ",")
	}
	return part
}
