// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
)

// Switch turns parts of the node off or on again, for live flows too: pods, Kubernetes namespaces, ports. New
// pods and connections of a part follow its switch. It returns the switches that have changed, and
// datapath.ErrNotLoaded if nothing is loaded. After an error the next Reap, or the same call again, completes
// the change.
func (n *Node) Switch(ctx context.Context, off bool,
	parts []datapath.Switch) (changed []datapath.Switch, err error) {
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

// Switches lists the switches that users have turned off. It takes no lock, and returns datapath.ErrNotLoaded
// like Attachments.
func (n *Node) Switches(context.Context) ([]datapath.Switch, error) {
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Switches()
}

// PolicyOf returns the policy that is in force for a network namespace; ok is false if it has no endpoint. It
// takes no lock, and returns datapath.ErrNotLoaded like Attachments.
func (n *Node) PolicyOf(_ context.Context, cookie uint64) (p datapath.Policy, ok bool, err error) {
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return p, false, err
	}
	defer d.Close()
	r, ok, err := d.Endpoint(cookie)
	return r.Policy, ok, err
}

// applyAllPolicies derives the policies of all endpoints from attachments and switches.
func (s *session) applyAllPolicies() error {
	if err := s.readAttachments(); err != nil {
		return err
	}
	done := map[uint64]bool{0: true}
	var errs []error
	for _, attachment := range s.attachments {
		if !done[attachment.NetNSCookie] {
			done[attachment.NetNSCookie] = true
			// A missing endpoint is not created here: see decline.EndpointGone.
			if _, registered, err := s.d.Endpoint(attachment.NetNSCookie); !registered || err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, s.applyPolicies(attachment.NetNSCookie))
		}
	}
	return errors.Join(errs...)
}

// readSwitches reads the switches once in each session.
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

// switchedOff returns the switches of the node, after readSwitches.
func (s *session) switchedOff() []datapath.Switch {
	if s.switches == nil {
		return nil
	}
	return *s.switches
}

// switchPolicies returns what switches add to the policies of a network namespace. like is one of these
// policies: switches keep its namespace and group.
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

// switchOf returns the switch that keeps a network namespace on TCP; off is false if there is none.
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

// SwitchOf returns the switch that keeps the sandbox of an attachment on TCP as a whole; off is false if
// there is none.
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
