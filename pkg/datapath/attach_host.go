// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

const hostPod = uint64(1) << bpf.SockmapAbiHOST_POD_BIT

// HostKey is the key of a pod with hostNetwork, in maps whose keys are netns cookies otherwise.
func HostKey(cgroupID uint64) uint64 { return hostPod | cgroupID }

// IsHostKey reports whether key is a HostKey and no netns cookie.
func IsHostKey(cookie uint64) bool { return cookie&hostPod != 0 }

// AttachHost is Attach for the cgroup of a pod with hostNetwork. Its sockets in the network namespace with
// the cookie hostNetNS belong to the endpoint HostKey.
func (d *Datapath) AttachHost(cgroup *os.File, key LinkKey, hostNetNS uint64) (made bool, err error) {
	return d.attachWith(cgroup, key, func() (*ebpf.Program, func() error, error) {
		prog, err := d.loadHost(key.CgroupID, hostNetNS)
		if err != nil {
			return nil, nil, err
		}
		return prog, prog.Close, nil
	})
}

// loadHost loads the copy of sock_ops that is for one pod, with the maps that are pinned. The link keeps it:
// it has no pin.
func (d *Datapath) loadHost(cgroupID, hostNetNS uint64) (prog *ebpf.Program, err error) {
	spec, err := bpf.LoadHost()
	if err != nil {
		return nil, fmt.Errorf("read embedded programs: %w", err)
	}
	pod := struct{ HostNetNS, Key uint64 }{hostNetNS, HostKey(cgroupID)}
	if err := spec.Variables["host_pod"].Set(pod); err != nil {
		return nil, fmt.Errorf("set the pod of %s: %w", bpf.HostProgSockOpsHost, err)
	}
	pinned, err := d.allPinnedMaps(spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeMaps(pinned)) }()
	for name, m := range pinned {
		spec.Maps[name].MaxEntries = m.MaxEntries() // of the settings, not of the source
	}
	var objs bpf.HostPrograms
	if err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{MapReplacements: pinned,
		Cache: newTypes()}); err != nil {
		return nil, explainLoad(err)
	}
	return objs.SockOpsHost, nil
}

// hostLinks maps cgroup ids of pods with hostNetwork to the netns cookie of the host.
func (d *Datapath) hostLinks() (map[uint64]uint64, error) {
	attachments, err := d.Attachments()
	if err != nil {
		return nil, err
	}
	hosts := map[uint64]uint64{}
	for _, r := range attachments {
		if r.HostNetNSCookie != 0 && r.CgroupID != 0 {
			hosts[r.CgroupID] = r.HostNetNSCookie
		}
	}
	return hosts, nil
}

// linksOf lists the links of a state, which may be another one. hosts are the hostLinks of this one.
func (d *Datapath) linksOf(state *Datapath) (keys []LinkKey, hosts map[uint64]uint64, err error) {
	if keys, err = state.LinkKeys(); err != nil {
		return nil, nil, err
	}
	hosts, err = d.hostLinks()
	return keys, hosts, err
}
