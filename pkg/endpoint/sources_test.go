// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// An attachment keeps the name of its source in a field of fixed size, which cuts a longer name.
func TestNamesOfSourcesFitIntoAnAttachment(t *testing.T) {
	for _, s := range cgroup.Sources() {
		if len(s) > datapath.MaxCgroupSource {
			t.Errorf("source %q has %d bytes, an attachment keeps %d", s, len(s), datapath.MaxCgroupSource)
		}
	}
}
