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

// liveness finds out which sandboxes, cgroups and links still exist, as far as this process can see them.
type liveness struct {
	mount   cgroup.Mount
	noMount error
	mountNS uint64 // 0: unknown

	// processes lists the processes of this node by network namespace. They are listed once, and only if an
	// attachment seems to be dead.
	processes func() (map[netns.Inode][]int, error)
}

func (n *Node) newLiveness() (w liveness) {
	w.mount, w.noMount = n.findMount()
	w.mountNS, _ = netns.MountNS()
	w.processes = sync.OnceValues(netns.Processes)
	return w
}

const whyCgroupGone = "its cgroup is gone"

// whyDead returns why the sandbox of an attachment provably does not exist any more. It is empty if there is
// any doubt.
func (w liveness) whyDead(attachment datapath.Attachment) string {
	why := w.whyEnded(attachment)
	// The sandbox has ended, but other containers may have joined its network namespace.
	if why != "" && w.hasProcess(attachment) {
		return ""
	}
	return why
}

// whyEnded returns why the sandbox of an attachment has ended, or "" if it has not or that is not known.
func (w liveness) whyEnded(attachment datapath.Attachment) string {
	for _, id := range []uint64{attachment.CgroupID, attachment.ContainerCgroupID} {
		if id != 0 && w.cgroupGone(id) {
			return whyCgroupGone
		}
	}
	// In another mount namespace the path may lead to anything. A path that was too long was not recorded.
	if attachment.NetNSPath == "" || attachment.MountNS != w.mountNS || w.mountNS == 0 {
		return ""
	}
	dev, inode, err := netns.Stat(attachment.NetNSPath)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, netns.ErrNotNetNS):
		return "its network namespace is gone"
	case err == nil && (dev != attachment.NetNSDev || inode != attachment.NetNSInode):
		return "its path leads to another network namespace"
	}
	return ""
}

// hasProcess reports whether a visible process is in the network namespace of an attachment. It is true if
// that is not known.
func (w liveness) hasProcess(attachment datapath.Attachment) bool {
	processes, err := w.processes()
	if err != nil {
		return true
	}
	for _, pid := range processes[netns.Inode{Dev: attachment.NetNSDev, Inode: attachment.NetNSInode}] {
		id, err := netns.Identify(netns.ProcessPath(pid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the process has ended
		}
		if err != nil {
			return true
		}
		// The inode number may have been reused for a newer namespace. A declined attachment has no cookie to
		// compare.
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

// linkAlive reports whether the link exists and its cgroup, too.
func (w liveness) linkAlive(d *datapath.Datapath, key datapath.LinkKey) (bool, error) {
	alive, err := d.LinkAlive(key)
	// The kernel detaches a link some time after its cgroup was removed.
	return alive && !w.cgroupGone(key.CgroupID), err
}
