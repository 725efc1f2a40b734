// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// conflists returns every network configuration below conf/, by its path there.
func conflists(t *testing.T) map[string]*libcni.NetworkConfigList {
	t.Helper()
	root := filepath.Join("..", "..", "conf")
	lists := make(map[string]*libcni.NetworkConfigList)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".conflist" {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		lists[name], err = libcni.NetworkConfFromFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lists
}

// TestShippedConflistsAreTaken gives each file's sockmap entry to Parse in the form in which a runtime would.
func TestShippedConflistsAreTaken(t *testing.T) {
	lists := conflists(t)
	want := map[string]func(*Conf){ // what differs from the defaults
		"10-sockmap.conflist":                func(*Conf) {},
		"examples/kubernetes-chain.conflist": func(*Conf) {},
		"examples/dual-stack.conflist":       func(*Conf) {},
		"examples/namespace-only.conflist":   func(c *Conf) { c.Peers = PeersNamespace },
		"examples/port-lists.conflist": func(c *Conf) {
			c.Ports.Include = []PortRange{{First: 80, Last: 80}, {First: 5432, Last: 5432}, {First: 6379, Last: 6379},
				{First: 8000, Last: 8999}}
			c.Ports.Exclude = []PortRange{{First: 8125, Last: 8125}}
		},
	}
	for name := range want {
		if lists[name] == nil {
			t.Errorf("conf/%s is missing", name)
		}
	}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			last := list.Plugins[len(list.Plugins)-1]
			if last.Network.Type != "sockmap" {
				t.Fatalf("the last plugin is %q, want sockmap", last.Network.Type)
			}
			capabilities := map[string]bool{CapabilityCgroupPath: true, CapabilityPodAnnotations: true}
			if diff := cmp.Diff(capabilities, last.Network.Capabilities); diff != "" {
				t.Error("capabilities:", diff)
			}
			injected, err := libcni.InjectConf(last, map[string]any{
				"name": list.Name, "cniVersion": list.CNIVersion, "prevResult": json.RawMessage(`{"cniVersion":"1.0.0"}`),
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(injected.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			expected := defaults()
			expected.Name, expected.CNIVersion, expected.Type = list.Name, list.CNIVersion, "sockmap"
			expected.PrevResult = json.RawMessage(`{"cniVersion":"1.0.0"}`)
			if adjust, ok := want[name]; ok {
				adjust(expected)
			} else {
				t.Error("the test does not say what this file configures")
			}
			if diff := cmp.Diff(expected, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestShippedConflistsCanRunSideBySide: host-local keeps addresses by network name, and a bridge has one
// subnet.
func TestShippedConflistsCanRunSideBySide(t *testing.T) {
	owner := make(map[string]string)
	claim := func(what, file string) {
		if other, taken := owner[what]; taken {
			t.Errorf("%s and %s both have %s", other, file, what)
		}
		owner[what] = file
	}
	for file, list := range conflists(t) {
		claim("network "+list.Name, file)
		var first struct {
			Bridge string
			IPAM   struct{ Ranges [][]struct{ Subnet string } }
		}
		if err := json.Unmarshal(list.Plugins[0].Bytes, &first); err != nil {
			t.Fatal(err)
		}
		if first.Bridge != "" {
			claim("bridge "+first.Bridge, file)
		}
		if len(first.IPAM.Ranges) == 0 {
			t.Errorf("%s has no address ranges", file)
		}
		for _, set := range first.IPAM.Ranges {
			claim("subnet "+set[0].Subnet, file)
		}
		if dual := strings.Contains(file, "dual-stack"); dual != (len(first.IPAM.Ranges) == 2) {
			t.Errorf("%s has %d range sets", file, len(first.IPAM.Ranges))
		}
	}
}
