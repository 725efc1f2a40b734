// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"rsc.io/script"
)

// oldpod NETWORK NAMESPACE/NAME CGROUP [ANNOTATION=VALUE]: a running pod that is in libcni's cache in
// $WORK/cache, and for which the plugin was not called.
func oldPodCommand(t *testing.T) script.Cmd {
	usage := script.CmdUsage{Summary: "have a pod run", Args: "network namespace/name cgroup [annotation=value]"}
	return script.Command(usage, func(s *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) < 3 {
			return nil, script.ErrUsage
		}
		namespace, name, _ := strings.Cut(args[1], "/")
		annotations := map[string]string{}
		for _, arg := range args[3:] {
			key, value, _ := strings.Cut(arg, "=")
			annotations[key] = value
		}
		text, err := json.Marshal(map[string]any{
			"kind": libcni.CNICacheV1, "networkName": args[0], "containerId": sandboxID(args[1]), "ifName": "eth0",
			"netns": netnstest.New(t).Path,
			"cniArgs": [][2]string{
				{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", namespace}, {"K8S_POD_NAME", name},
				{"K8S_POD_UID", "u-" + name},
			},
			"capabilityArgs": map[string]any{"cgroupPath": args[2], "io.kubernetes.cri.pod-annotations": annotations},
		})
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(s.Getwd(), "cache", "results")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		return nil, os.WriteFile(filepath.Join(dir, args[0]+"-"+sandboxID(args[1])+"-eth0"), text, 0o600)
	})
}

// conflist NETWORK ENTRY: $WORK/net.d has a list of this name with the plugin's entry.
func conflistCommand() script.Cmd {
	usage := script.CmdUsage{Summary: "write the list of a network", Args: "network entry"}
	return script.Command(usage, func(s *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) != 2 {
			return nil, script.ErrUsage
		}
		dir := filepath.Join(s.Getwd(), "net.d")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		list := `{"cniVersion":"1.1.0","name":"` + args[0] + `","plugins":[{"type":"bridge"},` + args[1] + `]}`
		return nil, os.WriteFile(filepath.Join(dir, "10-"+args[0]+".conflist"), []byte(list), 0o600)
	})
}

// sandboxID is an id for a pod of this name.
func sandboxID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}
