// SPDX-License-Identifier: Apache-2.0

//go:build scripts

package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// A build for the scripts of test/cli differs in one way: loads take the hazards from a variable, not from
// the kernel of the test, and do not look for state and flows of other tests on the machine.
func init() {
	adjust = func(e *env) {
		e.host.strays, e.host.pinned, e.host.files = nil, nil, os.Getenv("SOCKMAPCTL_TEST_FILES")
		e.probe = nil
		words := strings.Fields(os.Getenv("SOCKMAPCTL_TEST_HAZARDS"))
		if len(words) == 0 {
			return
		}
		var sets [2]hazard.Set // present, guarded
		for i, names := range words {
			sets[i] = hazard.SetOf(strings.Split(names, ",")...)
		}
		e.probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
			if words[0] == "broken" {
				return 0, 0, errors.New("the probe is broken")
			}
			return uint32(sets[0]), uint32(sets[1]), nil
		}
	}
}
