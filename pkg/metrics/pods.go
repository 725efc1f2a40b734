// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath"

// podSums are the sums over the endpoints of one pod.
type podSums struct {
	traffic
	totals  datapath.Totals // of all connections; its sums of bytes and messages lack live sockets
	active  map[datapath.Mode]uint64
	high    uint64 // bytes, the greatest of all readers
	sockets uint64 // that count against shares
}

func newPodSums() *podSums {
	return &podSums{
		totals: datapath.Totals{
			Flows:     map[datapath.Role]map[datapath.Result]uint64{},
			Fallbacks: map[datapath.Reason]uint64{},
		},
		active: map[datapath.Mode]uint64{},
	}
}

// byPod adds up what belongs to one pod. There is always an entry for noPod.
func (s *snapshot) byPod() map[pod]*podSums {
	all := map[pod]*podSums{noPod: newPodSums()}
	for cookie, t := range s.traffic {
		owner := s.owners[cookie]
		sum := all[owner]
		if sum == nil {
			sum = newPodSums()
			all[owner] = sum
		}
		sum.traffic.add(t)
		sum.high = max(sum.high, s.backlogHigh[cookie])
		sum.sockets += uint64(max(s.shares[cookie], 0))
		sum.totals.Add(s.totals[cookie])
		for mode, n := range s.active[cookie] {
			sum.active[mode] += n
		}
	}
	return all
}
