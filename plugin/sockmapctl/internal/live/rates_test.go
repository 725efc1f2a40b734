// SPDX-License-Identifier: Apache-2.0

package live_test

import (
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/livetest"
)

func TestRatesCountBytesSinceTheLastReading(t *testing.T) {
	began := time.Now()
	flows := livetest.Flows()[:4]
	r := live.Rates{}.Next(flows, began)
	if flows[0].PerSecond() != (live.Rate{}) {
		t.Errorf("one look has no rate, it says %+v", flows[0].PerSecond())
	}
	later := livetest.Flows()
	later[0].RedirectedBytes += 500
	later[1].TCPBytes += 2000
	later[1].TCPMessages += 4
	later[2].RedirectedBytes = 0 // another connection with the same numbers
	later[4].AgeSeconds = 1      // it is new, and sent 4000 bytes
	missed := later[4]
	missed.Key.Own, missed.AgeSeconds = 99, 60 // it was there and was not seen
	later = append(later, missed)
	r.Next(later, began.Add(2*time.Second))
	want := []live.Rate{{RedirectedBytes: 250}, {TCPBytes: 1000, Messages: 2}, {}, {}, {RedirectedBytes: 2000},
		{}}
	for i, w := range want {
		if got := later[i].PerSecond(); got != w {
			t.Errorf("flow %d: %+v, want %+v", i, got, w)
		}
	}
}
