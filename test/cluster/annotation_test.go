// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"testing"
)

// testLiveAnnotations lets the agent ask the kubelet for annotations that change while pods run. Otherwise,
// only the annotations with which the sandbox was made are known.
func testLiveAnnotations(t *testing.T) {
	install(t, oldVersion, "--set", "agent.liveAnnotations=true")
	defer install(t, oldVersion)
	c, _, clientPod, serverPod := pair(t)
	other := server("other")
	deploy(t, other)
	otherPod := podOf(t, other.name)
	redirecting(t, c.name, clientPod.Metadata.Name)
	before := goesOn(t, c.name, 0)

	const annotation = "sockmap-cni/accelerate"
	k(t, "annotate", "pod", serverPod.Metadata.Name, annotation+"=false")
	waitFor := func(accelerated bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s is accelerated: %t", serverPod.Metadata.Name, accelerated), func() error {
			e := attachmentOf(t, serverPod.Metadata.Name)
			if e == nil || e.Accelerated != accelerated {
				return fmt.Errorf("it is %+v", e)
			}
			return nil
		})
	}
	waitFor(false)
	wantPlain(t, otherPod, serverPod)
	if after := goesOn(t, c.name, 200); after.Connections != before.Connections {
		t.Errorf("%d connections before, %d after the annotation", before.Connections, after.Connections)
	}
	k(t, "annotate", "pod", serverPod.Metadata.Name, annotation+"-")
	waitFor(true)
	wantRedirected(t, otherPod.Metadata.Name, serverPod.at())
}
