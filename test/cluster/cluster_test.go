// SPDX-License-Identifier: Apache-2.0

package cluster

import "testing"

// TestCluster runs the life of an installation, case by case.
func TestCluster(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"adoption of pods that run", testAdoption},
		{"services", testServices},
		{"pods that are left out", testLeftOut},
		{"pods with hostNetwork by choice", testHostNetwork},
		{"annotations that change", testLiveAnnotations},
		{"policy", testPolicy},
		{"rolling update", testRollingUpdate},
		{"kubelet and containerd restart", testRestarts},
		{"upgrade", testUpgrade},
		{"reboot", testReboot},
		{"uninstall that fails", testUninstallThatFails},
		{"uninstall", testUninstall},
	} {
		if !t.Run(c.name, c.run) {
			t.Logf("the logs of the daemons are in %s", logDir())
		}
	}
}
