// SPDX-License-Identifier: Apache-2.0

package probe

import "testing"

func TestKernelVersionsThatRefuseMPTCPSubflows(t *testing.T) {
	for _, tt := range []struct {
		release, build string
		safe           bool
	}{
		{"6.18.44-fc", "#1 SMP", true},
		{"6.12.59", "", false},
		{"6.12.60", "", true},
		{"6.1.158-amd64", "", false},
		{"6.1.0-56-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-10-01)", true},
		{"6.1.0-40-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.153-1 (2025-09-20)", false},
		{"6.17.9", "", false},
		{"7.3.4+deb13-cloud-amd64", "", true},
		{"6.19", "", true},
		{"nonsense", "", false},
	} {
		if got := mptcpIsSafe(stableVersion(tt.release, tt.build)); got != tt.safe {
			t.Errorf("%s (%s): %v", tt.release, tt.build, got)
		}
	}
}
