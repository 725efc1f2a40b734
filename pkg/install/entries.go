// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// Entries returns what the plugin makes of each of its entries in a directory of network configurations, drop-ins
// included, with the network's name. It is for looking only: files that cannot be read, and entries that are no JSON, are left out.
func Entries(confDir string) []*cniconf.Conf {
	type entry struct {
		network string
		text    []byte
	}
	var found []entry
	files, _ := networkFiles(confDir)
	for _, path := range files {
		n, err := loadNetwork(path)
		if err != nil {
			continue
		}
		for _, p := range n.list.Plugins {
			if p.Network.Type == PluginType {
				found = append(found, entry{n.list.Name, p.Bytes})
			}
		}
	}
	dropIns, _ := (&Installer{ConfDir: confDir}).dropIns()
	for _, path := range dropIns {
		if text, err := os.ReadFile(path); err == nil {
			// A drop-in is in the directory that has the network's name.
			found = append(found, entry{filepath.Base(filepath.Dir(path)), text})
		}
	}
	var entries []*cniconf.Conf
	for _, e := range found {
		if conf, err := cniconf.ParseLenient(e.text); err == nil {
			conf.Name = e.network
			entries = append(entries, conf)
		}
	}
	return entries
}
