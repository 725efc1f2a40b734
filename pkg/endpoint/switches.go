// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
)

// Switch turns parts of the node off, or on again, for live flows too: pods, Kubernetes namespaces, ports. What comes anew
// follows, until the part is switched on again. It tells which of the switches were news, and returns datapath.ErrNotLoaded
// where nothing is loaded. After an error the next Reap, or the same call again, does what is left.
func (n *Node) Switch(ctx context.Context, off bool, parts []datapath.Switch) (changed []datapath.Switch, err error) {
	for _, part := range parts {
		if err := part.Check(); err != nil {
			return nil, err
		}
	}
	s, err := n.beginLoaded(ctx)
	if err != nil {
		return nil, err
	}
	defer s.end()
	turn := s.d.ClearSwitch
	if off {
		turn = s.d.SetSwitch
	}
	for _, part := range parts {
		if err := s.step("switch"); err != nil {
			return changed, err
		}
		news, err := turn(part)
		if err != nil {
			return changed, err
		}
		if news {
			changed = append(changed, part)
		}
	}
	return changed, s.applyAllPolicies()
}

// Switches lists what a person has switched off. It takes no lock, and returns datapath.ErrNotLoaded like Records.
func (n *Node) Switches(context.Context) ([]datapath.Switch, error) {
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Switches()
}

// PolicyOf returns the policy that is in force for a network namespace; ok is false where it is not registered. It takes no
// lock, and returns datapath.ErrNotLoaded like Records.
func (n *Node) PolicyOf(_ context.Context, cookie uint64) (p datapath.Policy, ok bool, err error) {
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return p, false, err
	}
	defer d.Close()
	r, ok, err := d.Endpoint(cookie)
	return r.Policy, ok, err
}

// applyAllPolicies brings all endpoints to what records and switches say.
func (s *session) applyAllPolicies() error {
	if err := s.readAttachments(); err != nil {
		return err
	}
	done := map[uint64]bool{0: true}
	var errs []error
	for _, attachment := range s.attachments {
		if !done[attachment.NetNSCookie] {
			done[attachment.NetNSCookie] = true
			// One that is not registered is another matter: see decline.EndpointGone.
			if _, registered, err := s.d.Endpoint(attachment.NetNSCookie); !registered || err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, s.applyPolicies(attachment.NetNSCookie))
		}
	}
	return errors.Join(errs...)
}

// readSwitches reads what a person has switched off, once for each session.
func (s *session) readSwitches() error {
	if s.switches != nil {
		return nil
	}
	all, err := s.d.Switches()
	if err == nil {
		s.switches = &all
	}
	return err
}

// switchedOff are the node's switches, after readSwitches.
func (s *session) switchedOff() []datapath.Switch {
	if s.switches == nil {
		return nil
	}
	return *s.switches
}

// switchPolicies are what switches add to the policies of a network namespace, of which like is one: a switch does not
// change whose neighbour it is.
func (s *session) switchPolicies(cookie uint64, like datapath.Policy) (all []datapath.Policy) {
	var ports []datapath.PortRange
	for _, sw := range s.switchedOff() {
		if r, err := sw.Ports(); sw.Kind == datapath.SwitchPort && err == nil {
			ports = append(ports, r)
		}
	}
	if len(ports) > 0 {
		all = append(all, datapath.Policy{
			Accelerate: true, Namespace: like.Namespace, Group: like.Group, Exclude: portrange.Join(ports),
		})
	}
	if _, off := s.switchOf(cookie); off {
		all = append(all, datapath.Policy{Namespace: like.Namespace, Group: like.Group})
	}
	return all
}

// switchOf returns the switch that keeps a network namespace on TCP.
func (s *session) switchOf(cookie uint64) (sw datapath.Switch, off bool) {
	for _, attachment := range s.sharing() {
		if attachment.NetNSCookie != cookie {
			continue
		}
		if sw, off := SwitchOf(s.switchedOff(), attachment); off {
			return sw, true
		}
	}
	return sw, false
}

// SwitchOf returns which of the switches keeps the sandbox of a record on TCP as a whole.
func SwitchOf(switches []datapath.Switch, attachment datapath.Attachment) (sw datapath.Switch, off bool) {
	for _, sw := range switches {
		switch {
		case sw.Kind == datapath.SwitchNamespace && attachment.PodNamespace == sw.Name && sw.Name != "",
			sw.Kind == datapath.SwitchPod && sw.Name == podName(attachment),
			sw.Kind == datapath.SwitchPod && sw.Name == attachment.ContainerID:
			return sw, true
		}
	}
	return sw, false
}

func podName(attachment datapath.Attachment) string {
	return attachment.PodNamespace + "/" + attachment.PodName
}
