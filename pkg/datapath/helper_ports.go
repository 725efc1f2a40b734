// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// HelperPorts returns the ports of conntrack helpers that the programs know. If ignored is true they are
// accelerated like others.
func (d *Datapath) HelperPorts() (ports []PortRange, ignored bool, err error) {
	cfg, err := d.config()
	if err != nil {
		return nil, false, err
	}
	for _, r := range cfg.HelperPorts[:min(int(cfg.HelperRanges), MaxPortRanges)] {
		ports = append(ports, PortRange{First: r.First, Last: r.Last})
	}
	return ports, cfg.HelpersMode == uint8(bpf.SockmapHelpersModeHELPERS_IGNORE), nil
}

// SetHelperPorts changes the ports of conntrack helpers, MaxPortRanges at most, and makes live flows ask
// their policy once more. It reports whether they changed.
func (d *Datapath) SetHelperPorts(ports []PortRange) (changed bool, err error) {
	if len(ports) > MaxPortRanges {
		return false, fmt.Errorf("conntrack helpers have %d ranges of ports, at most %d are possible", len(ports),
			MaxPortRanges)
	}
	err = d.update(func(c *bpf.SockmapConfig) {
		was, used := c.HelperPorts, c.HelperRanges
		clear(c.HelperPorts[:])
		for i, p := range ports {
			c.HelperPorts[i].First, c.HelperPorts[i].Last = p.First, p.Last
		}
		c.HelperRanges = uint8(len(ports))
		changed = c.HelperPorts != was || c.HelperRanges != used
	})
	if err != nil || !changed {
		return false, err
	}
	// After the ports: a socket that sees the new epoch must find them.
	return true, d.bumpEpoch()
}
