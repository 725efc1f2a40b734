// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// ErrDisabled: the kill switch is on. Containers are registered all the same.
var ErrDisabled = errors.New("the kill switch is on, and all flows go by TCP (switch on with: sockmapctl enable)")

// Part is one of the things that it takes for containers to be accelerated.
type Part struct {
	Name string // for a list of parts: one word
	Err  error  // nil: it is as it should be. ReasonOf knows its reason
}

// partInput is what the parts are judged by.
type partInput struct {
	config   datapath.Config
	accepted []string // names of hazards
}

// parts of a node, in the order in which they are told. What is loaded comes before, as PartPrograms.
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

// PartPrograms is the first of Parts: the programs are loaded and usable.
const PartPrograms = "programs"

// PartNames are the names of Parts, in its order.
func PartNames() []string {
	names := []string{PartPrograms}
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// Parts tells what keeps a container that accepts these hazards from being accelerated now. Unlike Ready it only
// looks: it takes no lock and loads nothing. The list is always whole; of a part that cannot be known, its error
// says so.
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

// CheckHazards returns a HazardError where a container that accepts these hazards would be declined now. It takes no lock.
func (n *Node) CheckHazards(accepted []string) error {
	config, err := n.config()
	if err != nil {
		return err
	}
	return hazardError(config, accepted)
}

// hazardError returns a HazardError for what the probes found at load, unless it is guarded, minor or accepted.
func hazardError(config datapath.Config, accepted []string) error {
	left := hazard.Set(config.Hazards&^config.Guarded).Severe() &^ hazard.SetOf(accepted...)
	if left != 0 {
		return &HazardError{left}
	}
	return nil
}
