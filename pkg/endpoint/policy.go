// SPDX-License-Identifier: Apache-2.0

package endpoint

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath"

// applyPolicies derives the policy of an endpoint from the policies of all its attachments: one container can
// be in several networks, each with its own configuration. It writes the endpoint and bumps the epoch only if
// the policy changes.
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

// policyOf returns the policy that an endpoint should have. ok is false if no attachment has a policy.
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
		s.log().Warn("some ports stay on TCP although all networks of this container allow them: together they "+
			"have too many ranges",
			"netnsCookie", cookie, "ports", left, "most", datapath.MaxPortRanges)
	}
	return policy, true
}

// optedOut reports whether any attachment of the network namespace has opted out, so that the endpoint is not
// accelerated.
func (s *session) optedOut(cookie uint64) bool {
	for _, attachment := range s.sharing() {
		if attachment.NetNSCookie == cookie && attachment.Policy != nil && !attachment.Policy.Accelerate {
			return true
		}
	}
	return false
}

// restorePolicies copies the policy of the endpoint into attachments of ABI 1, which did not record their
// policies. It must be called before the endpoint changes.
func (s *session) restorePolicies(cookie uint64) error {
	for key, attachment := range s.sharing() {
		if attachment.NetNSCookie != cookie || attachment.Policy != nil {
			continue
		}
		present, ok, err := s.d.Endpoint(cookie)
		if !ok || err != nil {
			return err // without an endpoint there is no policy: the ADD was killed
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
