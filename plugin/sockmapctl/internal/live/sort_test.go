// SPDX-License-Identifier: Apache-2.0

package live_test

import (
	"slices"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/livetest"
)

func TestSortingPutsTheMostFirst(t *testing.T) {
	flows := livetest.Flows()
	flows[2].Rate = &live.Rate{TCPBytes: 5}
	for key, want := range map[string]string{
		"address": "10.1.0.3:5432", "bytes": "10.1.0.3:5432", "redirected": "10.1.0.2:4003", "tcp": "10.1.0.3:5432",
		"backlog": "[fd00::4]:8080", "age": "10.1.0.2:4001", "rate": "[fd00::2]:4002",
	} {
		some := slices.Clone(flows)
		live.FlowOrder.Sort(some, key)
		if got := some[0].Local.String(); key != live.SortAddress && got != want {
			t.Errorf("--sort-by %s: %s comes first, want %s", key, got, want)
		}
	}
	if len(live.FlowOrder.Names()) != 7 {
		t.Errorf("a key is not tested: %v", live.FlowOrder.Names())
	}
}
