// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
)

// dockerd does what cri-dockerd does, which calls libcni itself. It cannot be built as a library; this passes
// the same values.
type dockerd struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

func newDockerd(s ask.Setup) (runtime, error) {
	files, err := filepath.Glob(filepath.Join(s.ConfDir, "*.conflist"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no conflist in %s", s.ConfDir)
	}
	list, err := libcni.NetworkConfFromFile(files[0])
	return dockerd{libcni.NewCNIConfigWithCacheDir([]string{s.BinDir}, s.CacheDir, nil), list}, err
}

func (d dockerd) do(ctx context.Context, r ask.Request) ([]string, error) {
	rt := &libcni.RuntimeConf{
		ContainerID: r.ID, NetNS: r.NetNS, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", r.Namespace}, {"K8S_POD_NAME", r.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", r.ID},
		},
		CapabilityArgs: map[string]any{"portMappings": []any{}, "dns": map[string]any{}},
	}
	switch r.Verb {
	case "add":
		res, err := d.cni.AddNetworkList(ctx, d.list, rt)
		if err != nil {
			return nil, err
		}
		result, err := types100.NewResultFromResult(res)
		if err != nil {
			return nil, err
		}
		var ips []string
		for _, ip := range result.IPs {
			ips = append(ips, ip.Address.IP.String())
		}
		return ips, nil
	case "del":
		return nil, d.cni.DelNetworkList(ctx, d.list, rt)
	}
	return nil, unknown(r)
}
