// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// ErrDisabled: the kill switch is on. Containers are registered nevertheless.
var ErrDisabled = errors.New("the kill switch is on, and all flows use TCP (switch on with: sockmapctl " +
	"enable)")

// Part is one of the conditions for containers to be accelerated.
type Part struct {
	Name string // one word
	Err  error  // nil: the condition holds; otherwise ReasonOf knows its reason
}

// partInput is the input of the checks.
type partInput struct {
	config   datapath.Config
	accepted []string // names of hazards
}

// parts are the conditions in the order of Parts. PartPrograms comes before them.
var parts = []struct {
	name string
	ask  func(partInput) error
}{
	{"switch", func(s partInput) error {
		if s.config.Disabled {
			return ErrDisabled
		}
		return nil
	}},
	{"hazards", func(s partInput) error { return hazardError(s.config, s.accepted) }},
}

// PartPrograms is the name of the first of Parts: the programs are loaded and usable.
const PartPrograms = "programs"

// PartNames are the names of Parts, in its order.
func PartNames() []string {
	names := []string{PartPrograms}
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// Parts checks the conditions for accelerating a container that accepts these hazards. Unlike Ready it takes
// no lock and loads nothing. The list is always complete. If a condition cannot be checked, its error says
// so.
func (n *Node) Parts(accepted ...string) []Part {
	config, err := n.config()
	list := []Part{{PartPrograms, err}}
	for _, p := range parts {
		part := Part{p.name, nil}
		if err != nil {
			part.Err = fmt.Errorf("not known: %w", err)
		} else {
			part.Err = p.ask(partInput{config, accepted})
		}
		list = append(list, part)
	}
	return list
}

func (n *Node) config() (datapath.Config, error) {
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return datapath.Config{}, err
	}
	defer d.Close()
	return d.Config()
}

// CheckHazards returns a HazardError if a container that accepts these hazards would be declined now. It
// takes no lock.
func (n *Node) CheckHazards(accepted []string) error {
	config, err := n.config()
	if err != nil {
		return err
	}
	return hazardError(config, accepted)
}

// hazardError returns a HazardError if the probes found severe hazards that are neither guarded nor accepted.
func hazardError(config datapath.Config, accepted []string) error {
	left := hazard.Set(config.Hazards&^config.Guarded).Severe() &^ hazard.SetOf(accepted...)
	if left != 0 {
		return &HazardError{left}
	}
	return nil
}
