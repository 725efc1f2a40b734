// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/install"
)

var (
	errNotChained = errors.New("the plugin's entry is missing or was changed")
	errHeld       = errors.New("the file is left to another component for a while")
)

// logChained logs what Chain has changed.
func (a *Agent) logChained(c install.Chained) {
	was, knew := a.written[c.Path]
	if !knew {
		a.log().Info("chained the plugin", "file", c.Path, "network", c.Network)
		if c.Original != "" {
			a.log().Info("the list replaces a file with one plugin", "file", c.Original)
		}
		return
	}
	what := install.Changes(was, c.Before)
	if c.Original != "" {
		what = c.Original + ", which the list replaces, was written again"
	}
	a.logRepair(c.Path, what, install.Owner(c), a.throttle.hit(c.Path, time.Now()))
}

// mayChange refuses to change a file that another component keeps rewriting, for a while. See Installer.Hold.
func (a *Agent) mayChange(file string) error {
	if a.heldFor = a.throttle.wait(file, time.Now()); a.heldFor > 0 {
		return errHeld
	}
	return nil
}

// logRepair logs and counts that another component undid the installation. The next repair of the file has to
// wait.
func (a *Agent) logRepair(file, what, owner string, wait time.Duration) {
	a.counters.repair()
	log := a.log().With("file", file, "change", what, "nextRepairNotBefore", wait.String())
	if owner != "" {
		log = log.With("probably", owner)
	}
	log.Warn("another component undid the installation; it is repaired")
}
