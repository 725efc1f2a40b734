// SPDX-License-Identifier: Apache-2.0

// Package containerd runs the real containerd, its shim and runc, and asks for pods as the kubelet does, with
// a network that has sockmap in its chain. Real programs in the containers exchange bytes that both ends
// compare, and the data path counts which way they took.
//
// It needs root, runc and unshare (test/setup.sh containerd); containerd and the CRI's client are built from
// the module tools the first time.
package containerd

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/oci"
)

var containerd = &crinode.Runtime{
	Name:     "containerd",
	Daemon:   "containerd",
	Programs: []string{"runc", "unshare"},
	Subnets: []netip.Prefix{
		netip.MustParsePrefix("10.62.0.0/24"), netip.MustParsePrefix("fd5c:1f0e:62a0::/64"),
	},
	Build:       lab.BuildContainerd,
	WriteImages: oci.Write,
	Row: crinode.Row{
		Dir:     "runtimes",
		Runtime: "containerd",
		Facts: []string{
			"between pods", "inside a pod over loopback", "through a service address", "opt-out",
			"container restart", "sandbox re-created", "containerd restarted", "many pods",
			"chained while pods run", "no cgroup2", "hazards",
		},
		Version: version,
	},
}

func TestMain(m *testing.M) { containerd.Main(m) }

// version has the versions of containerd and runc, as they print them.
func version(r *crinode.Runtime) (string, error) {
	daemon, err := exec.Command(filepath.Join(r.Dir, "containerd"), "--version").Output()
	fields := strings.Fields(string(daemon)) // containerd, import path, version, revision
	runc, rerr := exec.Command(r.Paths["runc"], "--version").Output()
	if err = errors.Join(err, rerr); err != nil {
		return "", err
	}
	if len(fields) < 3 {
		return "", fmt.Errorf("containerd printed %q", daemon)
	}
	version, _, _ := strings.Cut(fields[2], "+")
	first, _, _ := strings.Cut(string(runc), "\n")
	return "v" + strings.TrimPrefix(version, "v") + ", " + first, nil
}
