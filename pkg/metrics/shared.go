// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// sharedFor is how long other callers may get the result of one scrape.
const sharedFor = time.Second

// Shared returns a gatherer whose callers share results: one reads, and those that call meanwhile wait for
// it. Callers within a second after it, or within the time that it took, get the same result. So any number
// of clients costs no more than one that scrapes without a pause, which keeps half a CPU busy at most.
// Callers must not change the result.
func Shared(from prometheus.Gatherer) prometheus.Gatherer {
	return &shared{from: from, now: time.Now}
}

type shared struct {
	from prometheus.Gatherer
	now  func() time.Time

	mu       sync.Mutex
	until    time.Time
	families []*dto.MetricFamily
	err      error
}

// Gather implements prometheus.Gatherer.
func (s *shared) Gather() ([]*dto.MetricFamily, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := s.now()
	if begin.Before(s.until) {
		return s.families, s.err
	}
	s.families, s.err = s.from.Gather()
	end := s.now()
	s.until = end.Add(max(sharedFor, end.Sub(begin)))
	return s.families, s.err
}
