// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

func TestMeasureReapOfManyAttachments(t *testing.T) {
	for _, many := range []int{250, 1000} {
		n, g := newNode(t), newGroup(t)
		mustAdd(t, n, container(t, "first"), in(g))
		d, err := datapath.Open(n.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		attachment, err := newAttachment(container(t, "alive"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range many {
			attachment.ContainerID, attachment.NetNSCookie = fmt.Sprint("other-", i), 1<<40+uint64(i)
			attachment.Policy = &datapath.Policy{Accelerate: true}
			if err := d.PutAttachment(datapath.NewAttachmentKey(attachment.Network, attachment.ContainerID,
				attachment.IfName), attachment); err != nil {
				t.Fatal(err)
			}
			if err := d.SetEndpoint(attachment.NetNSCookie, datapath.Policy{Accelerate: true}); err != nil {
				t.Fatal(err)
			}
		}
		s, err := n.beginLoaded(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.readAttachments(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := s.applyAllPolicies(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d records: applyAllPolicies, under the lock, %v", many, time.Since(begin))
		s.end()
	}
}
