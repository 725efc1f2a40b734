// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"golang.org/x/sys/unix"
)

// liveness knows what can be said about sandboxes from where this process is.
type liveness struct {
	mount   cgroup.Mount
	noMount error
	mountNS uint64 // 0: unknown

	// processes lists those of this node by their network namespace, once, and only if a record looks dead.
	processes func() (map[netns.Inode][]int, error)
}

func (n *Node) newLiveness() (w liveness) {
	w.mount, w.noMount = n.findMount()
	w.mountNS, _ = netns.MountNS()
	w.processes = sync.OnceValues(netns.Processes)
	return w
}

const whyCgroupGone = "its cgroup is gone"

// whyDead says why the sandbox of a record is provably no more. It is empty whenever there is any doubt.
func (w liveness) whyDead(attachment datapath.Attachment) string {
	why := w.whyEnded(attachment)
	// The sandbox has ended, but other containers can have joined its network namespace.
	if why != "" && w.hasProcess(attachment) {
		return ""
	}
	return why
}

// whyEnded says why the sandbox of a record has ended.
func (w liveness) whyEnded(attachment datapath.Attachment) string {
	for _, id := range []uint64{attachment.CgroupID, attachment.ContainerCgroupID} {
		if id != 0 && w.cgroupGone(id) {
			return whyCgroupGone
		}
	}
	// In another mount namespace the path may name anything. No path is recorded whole that did not fit.
	if attachment.NetNSPath == "" || attachment.MountNS != w.mountNS || w.mountNS == 0 {
		return ""
	}
	dev, inode, err := netns.Stat(attachment.NetNSPath)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, netns.ErrNotNetNS):
		return "its network namespace is gone"
	case err == nil && (dev != attachment.NetNSDev || inode != attachment.NetNSInode):
		return "another network namespace stands at its path"
	}
	return ""
}

// hasProcess tells whether a process that can be seen from here is in the network namespace of a record.
func (w liveness) hasProcess(attachment datapath.Attachment) bool {
	processes, err := w.processes()
	if err != nil {
		return true
	}
	for _, pid := range processes[netns.Inode{Dev: attachment.NetNSDev, Inode: attachment.NetNSInode}] {
		id, err := netns.Identify(netns.ProcessPath(pid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return true
		}
		// The number may be in use again, by a namespace that came after the record's. A record that was declined has no cookie.
		return attachment.NetNSCookie == 0 || id.Cookie == attachment.NetNSCookie
	}
	return false
}

func (w liveness) cgroupGone(cgroupID uint64) bool {
	if w.noMount != nil {
		return false
	}
	exists, err := cgroup.Exists(w.mount, cgroupID)
	return err == nil && !exists
}

// linkAlive tells whether the link is there and bound to a cgroup that is.
func (w liveness) linkAlive(d *datapath.Datapath, key datapath.LinkKey) (bool, error) {
	alive, err := d.LinkAlive(key)
	// The kernel cuts a link off some time after its cgroup has gone.
	return alive && !w.cgroupGone(key.CgroupID), err
}
