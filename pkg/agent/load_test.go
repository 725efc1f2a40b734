// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

func (p *place) loadAs(t *testing.T, version string) {
	t.Helper()
	n := &endpoint.Node{Dir: p.StateDir, Settings: datapath.Settings{
		MaxSockets: 1024, MaxBacklogBytes: 1 << 20, MaxBacklogMessages: 1024, Version: version,
	}}
	if loaded, err := n.Load(t.Context()); err != nil || !loaded {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
}

func (p *place) loadedVersion(t *testing.T) string {
	t.Helper()
	d, err := datapath.Open(p.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Version
}

func TestWhatAnOlderVersionLoadedIsUpgraded(t *testing.T) {
	p := newPlace(t)
	p.Version = "v1.3.0"
	p.loadAs(t, "v1.2.9")
	p.write(file, list)
	r := p.start()
	eventually(t, "it is upgraded", func() bool { return p.loadedVersion(t) == "v1.3.0" })
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	said := r.log.records(t, "upgraded the programs")
	if len(said) != 1 || said[0]["from"] != "v1.2.9" || said[0]["to"] != "v1.3.0" {
		t.Errorf("it says %v", said)
	}
}

// The same programs need no exchange, so this is only told from an upgrade by the versions.
func TestWhatANewerVersionLoadedStays(t *testing.T) {
	p := newPlace(t)
	p.Version = "v1.3.0"
	p.loadAs(t, "v1.4.0")
	p.write(file, list)
	r := p.start()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	if v := p.loadedVersion(t); v != "v1.4.0" {
		t.Errorf("version %s is loaded", v)
	}
	if said := r.log.records(t, "upgraded the programs"); len(said) != 0 {
		t.Errorf("it says %v", said)
	}
}
