// SPDX-License-Identifier: Apache-2.0

package probe_test

import "testing"

// All kernels that are tested can send a reader another event (6.1 and later), so the hazard there would be
// an error of the programs.
func TestReaderGetsAnEventForBytesOverTCPAfterRedirectedOnes(t *testing.T) {
	_, findings := load(t)
	for _, f := range findings {
		if f.Name == "edge-mixed" {
			if f.Present || f.Guarded {
				t.Errorf("%+v", f)
			}
			return
		}
	}
	t.Error("the probe did not run")
}
