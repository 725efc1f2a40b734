// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// testAdoption installs into a cluster with pods that exchange traffic. They keep their connections, and
// their new connections are accelerated.
func testAdoption(t *testing.T) {
	if _, err := helm("status"); err == nil {
		t.Fatal("it is installed already")
	}
	s := server("old-server")
	deploy(t, s)
	serverPod := podOf(t, s.name)
	c := client("old-client", serverPod.at(), "-requests", "0")
	deploy(t, c)
	clientPod := podOf(t, c.name)
	goesOn(t, c.name, 100)

	install(t, oldVersion)
	goesOn(t, c.name, 100)
	adopted(t, serverPod, clientPod)
	if m, err := metrics(); err != nil || m.sum("sockmap_agent_adopted_total") < 2 ||
		m.sum("sockmap_agent_ready") != 1 {
		t.Errorf("the agent's metrics of the adoption: %v\n%s", err, m.grep("sockmap_agent"))
	}

	if got := goesOn(t, c.name, 100); got.Connections != 1 {
		t.Errorf("the old connection was lost: %+v", got)
	}
	if flows := liveFlows(t, clientPod.Metadata.Name); len(flows) > 0 {
		t.Errorf("a connection from before the adoption is in the sockhash: %+v", flows)
	}
	wantRedirected(t, clientPod.Metadata.Name, serverPod.at())
	if got := goesOn(t, c.name, 100); got.Connections != 1 {
		t.Errorf("the old connection was lost: %+v", got)
	}
	wantSame(t, s.name, serverPod)
	wantSame(t, c.name, clientPod)
}

// adopted waits until the agent has adopted these pods.
func adopted(t *testing.T, want ...pod) {
	t.Helper()
	eventually(t, "the agent has adopted the pods", func() error {
		all := standings(t)
		for _, p := range want {
			if s := all[p.Metadata.Name]; s != (standing{State: "accelerated"}) {
				return fmt.Errorf("%s is %+v", p.Metadata.Name, s)
			}
		}
		return nil
	})
	wantAccelerated(t, want...)
}

// testUpgrade installs another version while pods exchange traffic.
func testUpgrade(t *testing.T) {
	install(t, oldVersion)
	c, s, clientPod, serverPod := pair(t)
	before := goesOn(t, c.name, 100)
	redirecting(t, c.name, clientPod.Metadata.Name)

	install(t, newVersion)
	if got := statusOfNode(t); got.Node == nil || got.Node.LoadedVersion != newVersion {
		t.Errorf("after the upgrade the programs are those of %+v", got.Node)
	}
	wantPlugin(t, newVersion)
	after := goesOn(t, c.name, 100)
	if after.Connections != before.Connections {
		t.Errorf("%d connections before, %d after the upgrade", before.Connections, after.Connections)
	}
	redirecting(t, c.name, clientPod.Metadata.Name)
	wantRedirected(t, serverPod.Metadata.Name, serverPod.at())
	wantSame(t, c.name, clientPod)
	wantSame(t, s.name, serverPod)
	t.Logf("%+v", goesOn(t, c.name, 0))
}

// pair is a client that sends requests to a server over one connection without end.
func pair(t *testing.T) (c, s workload, clientPod, serverPod pod) {
	t.Helper()
	s = server("server")
	deploy(t, s)
	serverPod = podOf(t, s.name)
	c = client("client", serverPod.at(), "-requests", "0")
	deploy(t, c)
	return c, s, podOf(t, c.name), serverPod
}

// wantPlugin expects the binary of a version in the runtime's directory of plugins.
func wantPlugin(t *testing.T, version string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(cniBinDir, "sockmap"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(tools.own, version, "sockmap"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the plugin on the node is not that of %s", version)
	}
}
