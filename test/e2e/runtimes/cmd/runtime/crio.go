// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/cri-o/ocicni/pkg/ocicni"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
)

type crio struct {
	cni   ocicni.CNIPlugin
	setup ask.Setup
}

func newCRIO(s ask.Setup) (runtime, error) {
	cni, err := ocicni.InitCNIWithCache("", s.ConfDir, s.CacheDir, s.BinDir)
	return crio{cni, s}, err
}

func (c crio) do(ctx context.Context, r ask.Request) ([]string, error) {
	switch r.Verb {
	case "add":
		// CRI-O asks for the status of the pod that it has just made, and removes the pod if there is none.
		if _, err := c.cni.SetUpPodWithContext(ctx, c.pod(r)); err != nil {
			return nil, err
		}
		return c.status(ctx, r)
	case "check":
		return c.status(ctx, r)
	case "del":
		return nil, c.cni.TearDownPodWithContext(ctx, c.pod(r))
	case "gc":
		var valid []*ocicni.PodNetwork
		for _, one := range r.Valid {
			pod := c.pod(one)
			valid = append(valid, &pod)
		}
		return nil, c.cni.GC(ctx, valid)
	case "status":
		return nil, c.cni.StatusWithContext(ctx)
	}
	return nil, unknown(r)
}

func (c crio) status(ctx context.Context, r ask.Request) (ips []string, err error) {
	results, err := c.cni.GetPodNetworkStatusWithContext(ctx, c.pod(r))
	if err != nil {
		return nil, err
	}
	for _, one := range results {
		res, err := types100.NewResultFromResult(one.Result)
		if err != nil {
			return nil, err
		}
		for _, ip := range res.IPs {
			ips = append(ips, ip.Address.IP.String())
		}
	}
	return ips, nil
}

// pod is the pod that CRI-O's newPodNetwork makes from a sandbox. With the systemd driver it has only the
// last part of the cgroup's path.
func (c crio) pod(r ask.Request) ocicni.PodNetwork {
	cgroup := r.CgroupParent
	if c.setup.Systemd {
		cgroup = path.Base(cgroup)
	}
	return ocicni.PodNetwork{
		Name: r.Name, Namespace: r.Namespace, ID: r.ID, UID: r.UID, NetNS: r.NetNS,
		RuntimeConfig: map[string]ocicni.RuntimeConfig{
			c.cni.GetDefaultNetworkName(): {CgroupPath: cgroup, PodAnnotations: &r.Annotations},
		},
	}
}
