// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// An ADD delays the start of a container, so it looks each thing up once: the mount of cgroup2 and the
// configuration of the node.
func TestAddLooksUpMountAndConfigurationOnce(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g)) // the first ADD loads the programs
	mount := cgroupMount(t)
	mounts := 0
	n.Mount = func() (cgroup.Mount, error) {
		mounts++
		return mount, nil
	}
	var opened []*datapath.Datapath
	open := openLocked
	openLocked = func(dir string) (*datapath.Datapath, error) {
		d, err := open(dir)
		opened = append(opened, d)
		return d, err
	}
	t.Cleanup(func() { openLocked = open })
	for name, sb := range map[string]Sandbox{"again": sb, "another container": container(t, "two")} {
		mounts, opened = 0, nil
		mustAdd(t, n, sb, in(g))
		if mounts != 1 {
			t.Errorf("%s: cgroup2 was looked for %d times, want once", name, mounts)
		}
		if len(opened) != 1 {
			t.Fatalf("%s: the state was opened %d times, want once", name, len(opened))
		}
		// The one read, and none after the epoch was written.
		if reads := opened[0].ConfigReads; reads != 1 {
			t.Errorf("%s: the config map was read %d times, want once", name, reads)
		}
	}
}
