// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestScrapersShareASnapshotForASecond(t *testing.T) {
	now := time.Unix(1000, 0)
	took := time.Millisecond
	gathered := 0
	broken := errors.New("broken")
	s := &shared{now: func() time.Time { return now },
		from: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			gathered++
			now = now.Add(took)
			return []*dto.MetricFamily{{}}, broken
		})}
	ask := func(what string, want int) {
		t.Helper()
		families, err := s.Gather()
		if len(families) != 1 || !errors.Is(err, broken) || gathered != want {
			t.Errorf("%s: %d families, %v, gathered %d times, want %d", what, len(families), err, gathered, want)
		}
	}
	ask("the first", 1)
	ask("at once again", 1)
	now = now.Add(sharedFor - time.Millisecond)
	ask("within a second", 1)
	now = now.Add(time.Millisecond)
	took = 5 * time.Second
	ask("after a second", 2)
	now = now.Add(4 * time.Second)
	ask("in less time than it took", 2)
	now = now.Add(time.Second)
	ask("after that", 3)
}

func TestScrapersAtTheSameTimeReadOnce(t *testing.T) {
	const scrapers = 50
	begun, proceed := make(chan struct{}, scrapers), make(chan struct{})
	s := &shared{now: func() time.Time { return time.Unix(1000, 0) },
		from: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			begun <- struct{}{}
			<-proceed
			return nil, nil
		})}
	var wg sync.WaitGroup
	for range scrapers {
		wg.Go(func() { s.Gather() })
	}
	<-begun
	time.AfterFunc(100*time.Millisecond, func() { close(proceed) })
	wg.Wait()
	if more := len(begun); more != 0 {
		t.Errorf("%d scrapers of %d have read", more+1, scrapers)
	}
}
