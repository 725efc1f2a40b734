// SPDX-License-Identifier: Apache-2.0

package endpoint

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath"

// applyPolicies makes the policy of an endpoint follow from those of all records that name its cookie: one container can
// be in several networks, each with a configuration of its own. It writes and bumps the epoch only where that changes
// something.
func (s *session) applyPolicies(cookie uint64) error {
	if err := s.restorePolicies(cookie); err != nil {
		return err
	}
	if err := s.readSwitches(); err != nil {
		return err
	}
	policy, ok := s.policyOf(cookie)
	if !ok {
		return nil
	}
	if has, err := s.d.HasPolicy(cookie, policy); has || err != nil {
		return err
	}
	if err := s.step("endpoint"); err != nil {
		return err
	}
	return s.d.SetEndpoint(cookie, policy)
}

// policyOf returns the policy that an endpoint is to have; ok is false when no record tells one.
func (s *session) policyOf(cookie uint64) (policy datapath.Policy, ok bool) {
	var all []datapath.Policy
	for _, attachment := range s.sharing() {
		if attachment.NetNSCookie == cookie && attachment.Policy != nil {
			all = append(all, *attachment.Policy)
		}
	}
	if len(all) == 0 {
		return policy, false
	}
	all = append(all, s.switchPolicies(cookie, all[0])...)
	policy, left := datapath.Narrowest(all...)
	if len(left) > 0 {
		s.log().Warn("ports stay on TCP that all networks of this container allow: together they have too many ranges",
			"netnsCookie", cookie, "ports", left, "most", datapath.MaxPortRanges)
	}
	return policy, true
}

// optedOut reports whether an attachment of the network namespace is not to be accelerated, and so none is.
func (s *session) optedOut(cookie uint64) bool {
	for _, attachment := range s.sharing() {
		if attachment.NetNSCookie == cookie && attachment.Policy != nil && !attachment.Policy.Accelerate {
			return true
		}
	}
	return false
}

// restorePolicies gives the records of ABI 1, which kept no policy, the one that is in force at their endpoint. It comes
// before anything that changes the endpoint.
func (s *session) restorePolicies(cookie uint64) error {
	for key, attachment := range s.sharing() {
		if attachment.NetNSCookie != cookie || attachment.Policy != nil {
			continue
		}
		present, ok, err := s.d.Endpoint(cookie)
		if !ok || err != nil {
			return err // no endpoint: its ADD was killed before, and is nobody's word
		}
		policy := present.Policy
		policy.Accelerate = policy.Accelerate && attachment.Declined == ""
		attachment.Policy = &policy
		s.attachments[key] = attachment
		if err := s.writeAttachment(key); err != nil {
			return err
		}
	}
	return nil
}
