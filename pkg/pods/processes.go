// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// DefaultNamed is where runtimes and ip(8) name network namespaces.
const DefaultNamed = "/run/netns"

// containerID matches the names of cgroups of containers: libpod-ID.scope, nerdctl-ID.scope, docker/ID.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// Local lists the network namespaces in which processes run, other than that of the host: with their names in
// dir, or by their processes. It is for runtimes without an API. The container ID is taken from the cgroup;
// if it is not there, the inode number of the namespace is used.
func Local(dir string) ([]Pod, error) {
	named, err := namesIn(dir)
	if err != nil {
		return nil, err
	}
	processes, err := netns.Processes()
	if err != nil {
		return nil, err
	}
	var pods []Pod
	for ns, pids := range processes {
		path := named[ns]
		if path == "" {
			path = netns.ProcessPath(pids[0])
		}
		if own, err := netns.SameAsOwn(path); own || err != nil {
			continue // the host's, or gone
		}
		pods = append(pods, localPod(ns, path, pids))
	}
	return merge(pods), nil
}

func localPod(ns netns.Inode, path string, pids []int) Pod {
	p := Pod{ID: fmt.Sprintf("netns-%d", ns.Inode), NetNS: path, From: FromProcesses}
	for _, pid := range pids {
		name, err := cgroup.OfProcess(pid)
		if err != nil {
			continue
		}
		if id := containerID.FindString(name); id != "" {
			p.ID = id
			return p
		}
	}
	return p
}

// namesIn returns the network namespaces that have a name in dir.
func namesIn(dir string) (map[netns.Inode]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	named := map[netns.Inode]string{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if dev, inode, err := netns.Stat(path); err == nil {
			named[netns.Inode{Dev: dev, Inode: inode}] = path
		}
	}
	return named, nil
}
