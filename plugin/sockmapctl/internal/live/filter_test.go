// SPDX-License-Identifier: Apache-2.0

package live_test

import (
	"slices"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/livetest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestFiltersPickFlows(t *testing.T) {
	all := livetest.Flows()
	for _, tt := range []struct {
		name   string
		filter live.Filter
		want   []int
	}{
		{"nothing asked", live.Filter{}, []int{0, 1, 2, 3, 4}},
		{"pod", live.Filter{Pods: []string{"web-0"}}, []int{0, 1, 4}},
		{"pod with namespace", live.Filter{Pods: []string{"data/db-0"}}, []int{0, 1}},
		{"pod in another namespace", live.Filter{Pods: []string{"shop/db-0"}}, nil},
		{"one of two pods", live.Filter{Pods: []string{"db-0", "cache-0"}}, []int{0, 1, 2, 3}},
		{"namespace", live.Filter{Namespaces: []string{"data"}}, []int{0, 1, 2, 3}},
		{"address", live.Filter{Addresses: []string{"10.1.0.3"}}, []int{0, 1}},
		{"v4-mapped address", live.Filter{Addresses: []string{"::ffff:10.1.0.3"}}, []int{0, 1}},
		{"prefix", live.Filter{Addresses: []string{"10.0.0.0/8"}}, []int{0, 1, 4}},
		{"v6", live.Filter{Addresses: []string{"[fd00::4]"}}, []int{2, 3}},
		{"port", live.Filter{Ports: []string{"5432"}}, []int{0, 1}},
		{"ports", live.Filter{Ports: []string{"8000-8999", "443"}}, []int{2, 3, 4}},
		{"mode", live.Filter{Modes: []string{"tcp", "pending"}}, []int{1, 4}},
		{"reason", live.Filter{Reasons: []string{"unread"}}, []int{1}},
		{"role", live.Filter{Roles: []string{"passive"}}, []int{1, 3}},
		{"all have to fit", live.Filter{Roles: []string{"active"}, Ports: []string{"5432"}}, []int{0}},
	} {
		if err := tt.filter.Check(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []int
		for _, f := range tt.filter.Flows(livetest.Flows()) {
			got = append(got, slices.IndexFunc(all, func(a live.Flow) bool { return a.Key == f.Key && a.Local == f.Local }))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}
