// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
)

// MaxPortRanges is the most ranges that each list may have once joined; the programs walk them for each
// connection.
const MaxPortRanges = 16

// Ports chooses connections by the port that the passive end listens on. A port is in when Include is empty
// or has it, and Exclude does not. Both lists are sorted and no two of their ranges overlap or adjoin.
type Ports struct {
	Include, Exclude []PortRange
}

// PortRange is written as the configuration has it: "80" or "8000-8999". First is at least 1 and at most
// Last.
type PortRange = portrange.Range

func (v value) ports() {
	found, ok := members(v.raw)
	if !ok {
		v.reject()
		return
	}
	before := len(v.wrong)
	var ports Ports
	for _, m := range found {
		sub := value{v.parser, v.key + "." + m.Name, "a list of ports", m.Raw}
		switch {
		case m.Name == "include":
			ports.Include = sub.portRanges()
		case m.Name == "exclude":
			ports.Exclude = sub.portRanges()
		default:
			names := []string{"include", "exclude"}
			v.conf.warnUnknown("key", v.key+".", m.Name, names, names)
		}
	}
	if len(v.wrong) == before {
		v.conf.Ports = ports
	}
}

func (v value) portRanges() []PortRange {
	items, ok := v.list()
	if !ok {
		return nil
	}
	var ranges []PortRange
	for i, raw := range items {
		item := v.item(i, raw, `a port such as "80" or a range such as "8000-8999", from 1 to 65535`)
		r, ok := parsePortRange(raw)
		if !ok {
			item.reject()
			continue
		}
		ranges = append(ranges, r)
	}
	ranges = portrange.Join(ranges)
	if len(ranges) > MaxPortRanges {
		v.wrong = append(v.wrong, &FieldError{
			Key:     v.key,
			Value:   fmt.Sprintf("a list of %d separate ranges", len(ranges)),
			Allowed: fmt.Sprintf("a list of at most %d (ranges that overlap or adjoin count as one)", MaxPortRanges),
		})
	}
	return ranges
}

func parsePortRange(raw json.RawMessage) (PortRange, bool) {
	s, ok := str(raw)
	if !ok {
		return PortRange{}, false
	}
	return portrange.Parse(s)
}
