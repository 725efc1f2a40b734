// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	gocni "github.com/containerd/go-cni"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
)

// containerd's CRI plugin.
type containerd struct{ cni gocni.CNI }

func newContainerd(s ask.Setup) (runtime, error) {
	cni, err := gocni.New(gocni.WithMinNetworkCount(2), gocni.WithPluginConfDir(s.ConfDir),
		gocni.WithPluginMaxConfNum(1),
		gocni.WithPluginDir([]string{s.BinDir}))
	if err != nil {
		return nil, err
	}
	c := containerd{cni}
	return c, c.load()
}

func (c containerd) load() error { return c.cni.Load(gocni.WithLoNetwork, gocni.WithDefaultConf) }

func (c containerd) do(ctx context.Context, r ask.Request) ([]string, error) {
	switch r.Verb {
	case "add":
		return addresses(c.cni.Setup(ctx, r.ID, r.NetNS, options(r)...))
	case "del":
		return nil, c.cni.Remove(ctx, r.ID, r.NetNS, options(r)...)
	case "status":
		return nil, c.cni.Status()
	case "load": // it does this itself when a file of the directory changes
		return nil, c.load()
	}
	return nil, unknown(r)
}

// options are those of containerd's cniNamespaceOpts.
func options(r ask.Request) []gocni.NamespaceOpts {
	opts := []gocni.NamespaceOpts{
		gocni.WithLabels(map[string]string{
			"K8S_POD_NAMESPACE": r.Namespace, "K8S_POD_NAME": r.Name, "K8S_POD_INFRA_CONTAINER_ID": r.ID,
			"K8S_POD_UID": r.UID, "IgnoreUnknown": "1",
		}),
		gocni.WithCapability("io.kubernetes.cri.pod-annotations", r.Annotations),
	}
	if r.CgroupParent != "" {
		opts = append(opts, gocni.WithCapabilityCgroupPath(r.CgroupParent))
	}
	return opts
}

func addresses(res *gocni.Result, err error) (ips []string, _ error) {
	if err != nil {
		return nil, err
	}
	for name, i := range res.Interfaces {
		for _, ip := range i.IPConfigs {
			if name == "eth0" {
				ips = append(ips, ip.IP.String())
			}
		}
	}
	return ips, nil
}

// ctr is `ctr run --cni`: the first network of the directory, and no data about the container.
type ctr struct{ cni gocni.CNI }

func newCtr(s ask.Setup) (runtime, error) {
	cni, err := gocni.New(gocni.WithPluginDir([]string{s.BinDir}), gocni.WithPluginConfDir(s.ConfDir),
		gocni.WithDefaultConf)
	return ctr{cni}, err
}

func (c ctr) do(ctx context.Context, r ask.Request) ([]string, error) {
	id := "default-" + r.ID // after containerd's namespace
	switch r.Verb {
	case "add":
		return addresses(c.cni.Setup(ctx, id, r.NetNS))
	case "del":
		return nil, c.cni.Remove(ctx, id, "")
	}
	return nil, unknown(r)
}

// nerdctl is the hook that nerdctl adds for createRuntime to each container's OCI configuration. It removes
// before it adds, in case the container was started before.
func nerdctl(s ask.Setup, stdin io.Reader, file string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var state struct {
		ID  string `json:"id"`
		PID int    `json:"pid"`
	}
	if err := json.NewDecoder(stdin).Decode(&state); err != nil {
		return fmt.Errorf("read state of the container: %w", err)
	}
	cni, err := gocni.New(gocni.WithPluginDir([]string{s.BinDir}), gocni.WithPluginConfDir(s.ConfDir),
		gocni.WithDefaultConf)
	if err != nil {
		return err
	}
	id := "default-" + state.ID
	labels := gocni.WithLabels(map[string]string{"IgnoreUnknown": "1", "NERDCTL_CNI_DHCP_HOSTNAME": state.ID})
	if err := cni.Remove(ctx, id, "", labels); err != nil {
		fmt.Fprintln(os.Stderr, "runtime: remove before add, as nerdctl ignores it:", err)
	}
	ips, err := addresses(cni.Setup(ctx, id, fmt.Sprintf("/proc/%d/ns/net", state.PID), labels))
	if err != nil {
		return err
	}
	b, err := json.Marshal(ask.Reply{IPs: ips})
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}
