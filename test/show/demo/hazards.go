// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// tellHazards says what the probes found at load and why the demo accepts it all the same.
func tellHazards(node *lab.Node) error {
	d, err := datapath.Open(node.BPFFS())
	if err != nil {
		return err
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		return err
	}
	open := hazard.Set(cfg.Hazards &^ cfg.Guarded).Severe()
	if open == 0 {
		say("The probes found nothing on this kernel that keeps acceleration off.")
		return nil
	}
	say("The probes found hazards on this kernel that keep acceleration off unless they are accepted:")
	for _, h := range hazard.Table {
		if open&hazard.SetOf(h.Name) != 0 {
			fmt.Printf("    %s: %s (cure: %s)\n", h.Name, h.Meaning, h.Cure())
		}
	}
	say("The demo accepts them (acceptHazards): its traffic programs use read and write only," +
		" and nothing interrupts them.")
	return nil
}
