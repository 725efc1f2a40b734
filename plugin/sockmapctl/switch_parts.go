// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

// partFlags name namespaces and ports. Pods are arguments.
type partFlags struct{ namespaces, ports []string }

func (f *partFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVarP(&f.namespaces, "namespace", "n", nil,
		"`NAME` of a Kubernetes namespace; may be repeated")
	cmd.Flags().StringSliceVar(&f.ports, "port", nil,
		"`PORT` of servers, or a range of them; may be repeated")
}

func (f *partFlags) any(cmd *cobra.Command) bool {
	return len(f.namespaces)+len(f.ports)+len(cmd.Flags().Args()) > 0
}

// check is the Args of a command. Values that cannot be a switch are wrong usage.
func (f *partFlags) check(_ *cobra.Command, pods []string) error {
	var errs []error
	for _, s := range append(f.switches(), podSwitches(pods)...) {
		errs = append(errs, s.Check())
	}
	return errors.Join(errs...)
}

func (f *partFlags) switches() (all []datapath.Switch) {
	for _, name := range f.namespaces {
		all = append(all, datapath.Switch{Kind: datapath.SwitchNamespace, Name: name})
	}
	for _, port := range f.ports {
		s := datapath.Switch{Kind: datapath.SwitchPort, Name: port}
		if r, err := s.Ports(); err == nil {
			s.Name = r.String() // "080" and "80-80" are 80
		}
		all = append(all, s)
	}
	return all
}

func podSwitches(names []string) (all []datapath.Switch) {
	for _, name := range names {
		all = append(all, datapath.Switch{Kind: datapath.SwitchPod, Name: name})
	}
	return all
}

// switchParts turns parts off or on, and prints the result for each.
func (a *app) switchParts(ctx context.Context, off bool, pods []string, f partFlags) error {
	verb := map[bool]string{true: "disable", false: "enable"}[off]
	n := a.node(datapath.Settings{})
	names, err := podsOf(ctx, n, pods)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	parts := append(podSwitches(names), f.switches()...)
	changed, err := n.Switch(ctx, off, parts)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	attachments, err := n.Attachments(ctx)
	if err != nil {
		return fmt.Errorf("%s: read attachments: %w", verb, err)
	}
	left, err := n.Switches(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	for _, part := range parts {
		news := slices.ContainsFunc(changed,
			func(c datapath.Switch) bool { return c.String() == part.String() })
		if err := a.say("%s", switchedText(part, off, news, attachments, left)); err != nil {
			return err
		}
	}
	return nil
}

// podsOf finds the names that pods have in switches: pods with an attachment, and pods that are switched off
// already.
func podsOf(ctx context.Context, n *endpoint.Node, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	attachments, err := n.Attachments(ctx)
	if err != nil {
		return nil, err
	}
	switches, err := n.Switches(ctx)
	if err != nil {
		return nil, err
	}
	var known []podID
	for _, r := range attachments {
		known = append(known, podID{r.PodNamespace, r.PodName, r.ContainerID})
	}
	for _, s := range switches {
		if namespace, name, ok := strings.Cut(s.Name, "/"); ok && s.Kind == datapath.SwitchPod {
			known = append(known, podID{namespace: namespace, name: name})
		} else if s.Kind == datapath.SwitchPod {
			known = append(known, podID{container: s.Name})
		}
	}
	var found []string
	var errs []error
	for _, name := range names {
		own := switchNames(known, name)
		if len(own) == 0 {
			errs = append(errs,
				fmt.Errorf("no pod %q was added on this node (see: sockmapctl attachments)", name))
		}
		if len(own) > 1 {
			errs = append(errs,
				fmt.Errorf("%q is more than one pod (name one of: %s)", name, strings.Join(own, ", ")))
		}
		found = append(found, own...)
	}
	return found, errors.Join(errs...)
}

// podID has the names by which a person may name a pod.
type podID struct{ namespace, name, container string }

// switchName is the pod's name in a switch; without a name it is the id of its sandbox.
func (p podID) switchName() string {
	if p.name != "" {
		return p.namespace + "/" + p.name
	}
	return p.container
}

func (p podID) is(name string) bool {
	return name == p.namespace+"/"+p.name || name == p.name && name != "" ||
		len(name) >= leastID && strings.HasPrefix(p.container, name)
}

// switchNames are the switch names of all pods that name may mean.
func switchNames(known []podID, name string) (all []string) {
	for _, p := range known {
		if own := p.switchName(); p.is(name) && !slices.Contains(all, own) {
			all = append(all, own)
		}
	}
	return all
}

// switchedText describes the result for one part, by the state of the attachments now.
func switchedText(
	part datapath.Switch, off, news bool, attachments []endpoint.Attachment, left []datapath.Switch,
) string {
	state := map[bool]string{true: "switched off", false: "switched on"}[off]
	if !news && off {
		state = "was switched off already"
	} else if !news {
		state = "was not switched off"
	}
	text := fmt.Sprintf("%s: %s", part, state)
	if part.Kind == datapath.SwitchPort {
		return text
	}
	n, held := 0, ""
	for _, r := range attachments {
		if _, mine := endpoint.SwitchOf([]datapath.Switch{part}, r.Attachment); !mine {
			continue
		}
		n++
		if by, still := endpoint.SwitchOf(left, r.Attachment); still && !off {
			held = by.String()
		}
	}
	if n == 0 {
		return text + "; no container of it runs here now"
	}
	text += "; " + term.Number(n, "container", "containers")
	switch {
	case off:
		return text + ", on TCP"
	case held != "":
		return text + ", still on TCP, as this is switched off: " + held
	}
	return text
}
