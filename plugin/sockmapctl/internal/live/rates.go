// SPDX-License-Identifier: Apache-2.0

package live

import (
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Rates has the counts of the last look. The zero value has no counts yet.
type Rates struct {
	at   time.Time
	sent map[datapath.EndKey]counts
}

type counts struct{ redirected, tcp, messages uint64 }

func countsOf(f *Flow) counts {
	return counts{f.RedirectedBytes, f.TCPBytes, f.RedirectedMessages + f.TCPMessages}
}

// Next sets the rates of flows and returns the counts for the next call.
func (r Rates) Next(flows []Flow, now time.Time) Rates {
	interval := now.Sub(r.at).Seconds()
	sent := make(map[datapath.EndKey]counts, len(flows))
	for i := range flows {
		f := &flows[i]
		is := countsOf(f)
		sent[f.Key] = is
		f.Rate = &Rate{}
		if r.sent == nil || interval <= 0 {
			continue
		}
		was, known := r.sent[f.Key]
		// A socket that was created since the last look has sent all its bytes since then. A socket that is
		// older but was missed, or whose counts fell, has no rate yet.
		if !known && f.AgeSeconds > interval || is.redirected < was.redirected || is.tcp < was.tcp ||
			is.messages < was.messages {
			continue
		}
		*f.Rate = Rate{
			float64(is.redirected-was.redirected) / interval, float64(is.tcp-was.tcp) / interval,
			float64(is.messages-was.messages) / interval,
		}
	}
	return Rates{now, sent}
}
