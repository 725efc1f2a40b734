// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"cmp"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// sized is a cell at its place on the axis of sizes, or of numbers.
type sized struct {
	at   float64
	cell result.Cell
}

// series are cells that differ only in the number in their names.
type series struct {
	rest, cpus string
	base       result.Variant
	points     []sized
}

// find returns the longest series of a measure, with both ends on one CPU where there is a choice; nil if no
// series has two points.
func find(all []result.Cell, group, measure string, number func(string) (float64, string, bool)) *series {
	var found []*series
	for _, c := range all {
		at, rest, ok := number(c.Name)
		if c.Group != group || c.Measure != measure || !ok {
			continue
		}
		i := slices.IndexFunc(found, func(s *series) bool {
			return s.rest == rest && s.cpus == c.CPUs && s.base == c.ComparedWith()
		})
		if i < 0 {
			i = len(found)
			found = append(found, &series{rest: rest, cpus: c.CPUs, base: c.ComparedWith()})
		}
		found[i].points = append(found[i].points, sized{at, c})
	}
	// Equal ones stay in the order of the file.
	slices.SortStableFunc(found, func(a, b *series) int {
		return cmp.Or(cmp.Compare(b.rank(), a.rank()), cmp.Compare(len(b.points), len(a.points)))
	})
	if len(found) == 0 || len(found[0].points) < 2 {
		return nil
	}
	slices.SortFunc(found[0].points, func(a, b sized) int { return cmp.Compare(a.at, b.at) })
	found[0].borrow(found[1:])
	return found[0]
}

func (s *series) rank() (rank int) {
	if len(s.points) > 1 {
		rank += 4
	}
	if s.base == result.Plain {
		rank += 2
	}
	if s.cpus != "two" {
		rank++
	}
	return rank
}

// borrow adds variants that were measured only with another base.
func (s *series) borrow(others []*series) {
	have := s.variants()
	for i := range s.points {
		p := &s.points[i]
		p.cell.Samples = cloned(p.cell.Samples)
		for _, other := range others {
			if other.cpus != s.cpus || other.base == s.base {
				continue
			}
			for _, o := range other.points {
				for v, samples := range o.cell.Samples {
					if o.at == p.at && !slices.Contains(have, v) && len(p.cell.Samples[v]) == 0 {
						p.cell.Samples[v] = samples
					}
				}
			}
		}
	}
}

func cloned(samples map[result.Variant][]float64) map[result.Variant][]float64 {
	c := map[result.Variant][]float64{}
	for v, s := range samples {
		c[v] = s
	}
	return c
}

// drawn are the variants between which people choose. The others explain them, and are in the tables.
var drawn = []result.Variant{result.Plain, result.Loopback, result.Unix, result.Sockmap}

// variants are the variants of drawn that were measured.
func (s *series) variants() []result.Variant {
	var all []result.Cell
	for _, p := range s.points {
		all = append(all, p.cell)
	}
	return slices.DeleteFunc(result.Present(all), func(v result.Variant) bool {
		return !slices.Contains(drawn, v)
	})
}
