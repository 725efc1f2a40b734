// SPDX-License-Identifier: Apache-2.0

package endpoint

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath"

// applyPolicies makes the policy of an endpoint follow from those of all records that name its cookie: one container can
// be in several networks, each with a configuration of its own. It writes and bumps the epoch only where that changes
// something.
func (s *session) applyPolicies(cookie uint64) error {
	if err := s.recallPolicies(cookie); err != nil {
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
	for _, record := range s.sharing() {
		if record.NetNSCookie == cookie && record.Policy != nil {
			all = append(all, *record.Policy)
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
	for _, record := range s.sharing() {
		if record.NetNSCookie == cookie && record.Policy != nil && !record.Policy.Accelerate {
			return true
		}
	}
	return false
}

// recallPolicies gives the records of ABI 1, which kept no policy, the one that is in force at their endpoint. It comes
// before anything that changes the endpoint.
func (s *session) recallPolicies(cookie uint64) error {
	for key, record := range s.sharing() {
		if record.NetNSCookie != cookie || record.Policy != nil {
			continue
		}
		present, ok, err := s.d.Endpoint(cookie)
		if !ok || err != nil {
			return err // no endpoint: its ADD was killed before, and is nobody's word
		}
		policy := present.Policy
		policy.Accelerate = policy.Accelerate && record.Declined == ""
		record.Policy = &policy
		s.records[key] = record
		if err := s.put(key); err != nil {
			return err
		}
	}
	return nil
}
