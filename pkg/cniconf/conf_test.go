// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// conflist is a network configuration list as far as a runtime looks into it.
type conflist struct {
	CNIVersion, Name string
	Plugins          []json.RawMessage
}

// conflists returns every network configuration below conf/, by its path there.
func conflists(t *testing.T) map[string]conflist {
	t.Helper()
	root := filepath.Join("..", "..", "conf")
	lists := make(map[string]conflist)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".conflist" {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var list conflist
		if err := json.Unmarshal(text, &list); err != nil {
			return fmt.Errorf("parse %s: %w", path, err)
		}
		if list.Name == "" || list.CNIVersion == "" || len(list.Plugins) == 0 {
			return fmt.Errorf("parse %s: no name, no version or no plugins", path)
		}
		lists[name] = list
		return nil
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
			c.Ports.Include = []PortRange{{80, 80}, {5432, 5432}, {6379, 6379}, {8000, 8999}}
			c.Ports.Exclude = []PortRange{{8125, 8125}}
		},
	}
	for name := range want {
		if _, ok := lists[name]; !ok {
			t.Errorf("conf/%s is missing", name)
		}
	}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			var entry map[string]any
			if err := json.Unmarshal(list.Plugins[len(list.Plugins)-1], &entry); err != nil {
				t.Fatal(err)
			}
			if entry["type"] != "sockmap" {
				t.Fatalf("the last plugin is %q, want sockmap", entry["type"])
			}
			capabilities := map[string]any{CapabilityCgroupPath: true, CapabilityPodAnnotations: true}
			if diff := cmp.Diff(any(capabilities), entry["capabilities"]); diff != "" {
				t.Error("capabilities:", diff)
			}
			entry["name"], entry["cniVersion"] = list.Name, list.CNIVersion
			entry["prevResult"] = json.RawMessage(`{"cniVersion":"1.0.0"}`)
			injected, err := json.Marshal(entry)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(injected)
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

// TestShippedConflistsCanRunSideBySide: host-local keeps addresses by network name, and a bridge has one subnet.
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
		if err := json.Unmarshal(list.Plugins[0], &first); err != nil {
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
