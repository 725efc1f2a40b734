// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestConflistDiffersFromItsFileOnlyAsRequested(t *testing.T) {
	n := labtest.NewNode(t, lab.Options{BinDir: labtest.Reference(t)})
	got := labtest.Conflist(t, n, lab.Network{
		Base: []byte(`{"cniVersion": "1.0.0", "name": "x", "keep": 4294967296, "plugins": [
			{"type": "bridge", "bridge": "b", "ipMasq": true, "mtu": 9000, "ipam": {"type": "host-local", "subnet": "10.0.0.0/8"}},
			{"type": "portmap"},
			{"type": "sockmap", "maxSockets": 1, "capabilities": {"cgroupPath": true}}]}`),
		Name: "y", CNIVersion: "1.1.0", Bridge: "c", Subnets: dualStack,
		Without: []string{"portmap"},
		Set: map[string]map[string]any{"sockmap": {"required": true, "maxSockets": nil},
			"bridge": {"mtu": 1400}},
		Extra: []map[string]any{{"type": "tuning"}},
	})
	want := `{"cniVersion": "1.1.0", "name": "y", "keep": 4294967296, "plugins": [
		{"type": "bridge", "bridge": "c", "ipMasq": false, "mtu": 1400, "ipam": {
			"type": "host-local", "dataDir": "` + n.Dir() + `/ipam",
			"ranges": [[{"subnet": "10.62.0.0/24"}], [{"subnet": "fd62::/64"}]],
			"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
		{"type": "sockmap", "bpffsPath": "` + n.BPFFS() + `", "required": true, "capabilities": {"cgroupPath": true}},
		{"type": "tuning"}]}`
	if diff := cmp.Diff(parse(t, []byte(want)), parse(t, got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func parse(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}

// A machine with only Go has neither iptables nor nft.
func TestNetworkOfTheRepositoryNeedsNoPrograms(t *testing.T) {
	n := labtest.NewNode(t, lab.Options{BinDir: labtest.Reference(t)})
	conflist := labtest.Conflist(t, n, lab.Network{Without: []string{"sockmap"}, CNIVersion: "1.1.0"})
	t.Setenv("PATH", t.TempDir())
	p := labtest.NewPod(t, n, lab.PodSpec{Conflist: conflist})
	if !p.IP4().IsValid() {
		t.Errorf("addresses %v", p.IPs())
	}
	if err := n.CHECK(t.Context(), conflist, p); err != nil {
		t.Error(err)
	}
	leases, err := filepath.Glob(filepath.Join(n.Dir(), "ipam", "*", p.IP4().String()))
	if err != nil || len(leases) != 1 {
		t.Errorf("leases %v, %v", leases, err)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(leases[0]); err == nil {
		t.Error("the lease outlives the pod")
	}
}
