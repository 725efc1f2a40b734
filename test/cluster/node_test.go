// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// runtimeSocket is the default path at which sockmapctl, crictl and the kubelet look for containerd.
const runtimeSocket = "/run/containerd/containerd.sock"

const runtimeConfig = `version = 3

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "` + pauseImage + `"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE, as inside many a virtual machine for tests, runc cannot lower the score.
  restrict_oom_score_adj = true

[plugins."io.containerd.nri.v1.nri"]
  disable = true
`

// conflist is the node's network before sockmap is chained.
const conflist = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "` + podNetwork + `" }]], "routes": [{ "dst": "0.0.0.0/0" }] }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
`

const (
	cniBinDir    = "/opt/cni/bin"
	cniConfDir   = "/etc/cni/net.d"
	conflistFile = cniConfDir + "/10-pods.conflist"
)

// cniPlugins are the plugins of the network.
var cniPlugins = []string{"bridge", "host-local", "loopback", "portmap"}

// prepareRuntime writes containerd's configuration.
func prepareRuntime() error {
	for _, dir := range []string{"/etc/containerd", cniBinDir, cniConfDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, name := range cniPlugins {
		b, err := os.ReadFile(filepath.Join(tools.plugins, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cniBinDir, name), b, 0o755); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile("/etc/containerd/config.toml", []byte(runtimeConfig), 0o600),
		os.WriteFile(conflistFile, []byte(conflist), 0o644),
	)
}

func runtimeReady() error {
	_, err := command("crictl", "info")
	return err
}

func importImages() error {
	_, err := command("ctr", "-n", "k8s.io", "images", "import", "--local", "--snapshotter", "native",
		tools.images)
	return err
}

// commandTime bounds a program that waits for the cluster. Programs with a flag for their time get less.
const commandTime = 5 * time.Minute

// command runs one of the programs and returns its output.
func command(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	path := name
	for _, dir := range []string{tools.bin, tools.containerd} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			path = filepath.Join(dir, name)
		}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	// kubectl and Helm keep files in the home directory, so they get the node's.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+confDir+"/admin.conf",
		"CONTAINER_RUNTIME_ENDPOINT=unix://"+runtimeSocket,
		"CONTAINERD_ADDRESS="+runtimeSocket, "HOME=/run/home")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err,
			strings.TrimSpace(complaint.String()))
	}
	return out, nil
}

func kubectl(args ...string) ([]byte, error) { return command("kubectl", args...) }

const kubeletConfig = confDir + "/kubelet.yaml"

// prepareKubelet writes the kubelet's configuration.
func prepareKubelet() error {
	// Pods use no name server.
	if err := os.WriteFile(confDir+"/resolv.conf", []byte("nameserver 192.0.2.53\n"), 0o644); err != nil {
		return err
	}
	b, err := json.Marshal(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true},
			"x509": map[string]any{"clientCAFile": confDir + "/ca.crt"},
		},
		"authorization": map[string]any{"mode": "Webhook"},
		"tlsCertFile":   confDir + "/kubelet.crt", "tlsPrivateKeyFile": confDir + "/kubelet.key",
		"containerRuntimeEndpoint": "unix://" + runtimeSocket,
		"cgroupDriver":             "cgroupfs", "cgroupRoot": "/" + cgroupRoot,
		// This machine may have hybrid cgroups, as older nodes do.
		"failCgroupV1": false,
		"failSwapOn":   false, "resolvConf": confDir + "/resolv.conf",
		// No pod is evicted because this machine's disk is nearly full.
		"evictionHard": map[string]any{
			"memory.available": "10Mi", "nodefs.available": "10Mi", "nodefs.inodesFree": "100",
			"imagefs.available": "10Mi",
		},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"nodeStatusUpdateFrequency": "2s",
	})
	if err != nil {
		return err
	}
	return os.WriteFile(kubeletConfig, b, 0o644)
}

func kubeletArgs() []string {
	return []string{
		"--config=" + kubeletConfig, "--kubeconfig=" + confDir + "/kubelet.conf", "--hostname-override=" + nodeName,
		"--node-ip=" + nodeIP.Addr().String(),
	}
}

// nodeReady returns nil when the kubelet works and has reported it. The API server's state may be from before
// a restart.
func nodeReady() error {
	if err := answers("http://127.0.0.1:10248/healthz"); err != nil {
		return err
	}
	out, err := kubectl("get", "node", nodeName, "-o",
		`jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	if err != nil {
		return err
	}
	if string(out) != "True" {
		return fmt.Errorf("the node's condition Ready is %q", out)
	}
	return nil
}

// answers returns nil when a server replies with status 200.
func answers(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

const proxyConfig = confDir + "/proxy.yaml"

// prepareProxy writes kube-proxy's configuration.
func prepareProxy(mode string) error {
	b, err := json.Marshal(map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"clientConnection": map[string]any{"kubeconfig": confDir + "/proxy.conf"},
		"mode":             mode, "clusterCIDR": podNetwork, "hostnameOverride": nodeName,
		// 0: unchanged, because they belong to the machine.
		"conntrack": map[string]any{
			"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
		},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(proxyConfig, b, 0o644)
}
