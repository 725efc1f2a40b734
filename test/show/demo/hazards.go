// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// printHazards prints the hazards that the probes found at load, and why the demo accepts them.
func printHazards(node *lab.Node) error {
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
		say("The probes found no hazard on this kernel that disables acceleration.")
		return nil
	}
	say("The probes found hazards on this kernel. Each disables acceleration unless the configuration accepts it:")
	for _, h := range hazard.Table {
		if open&hazard.SetOf(h.Name) != 0 {
			fmt.Printf("    %s: %s (cure: %s)\n", h.Name, h.Meaning, h.Cure())
		}
	}
	say("The demo accepts them (acceptHazards): its traffic programs only use read and write," +
		" and no signal interrupts them.")
	return nil
}
