// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// Entries returns what the plugin makes of each of its entries in a directory of network configurations, drop-ins
// included. It is for looking only: files that cannot be read, and entries that are no JSON, are left out.
func Entries(confDir string) []*cniconf.Conf {
	var texts [][]byte
	files, _ := networkFiles(confDir)
	for _, path := range files {
		n, err := loadNetwork(path)
		if err != nil {
			continue
		}
		for _, p := range n.list.Plugins {
			if p.Network.Type == PluginType {
				texts = append(texts, p.Bytes)
			}
		}
	}
	dropIns, _ := (&Installer{ConfDir: confDir}).dropIns()
	for _, path := range dropIns {
		if text, err := os.ReadFile(path); err == nil {
			texts = append(texts, text)
		}
	}
	var entries []*cniconf.Conf
	for _, text := range texts {
		if conf, err := cniconf.ParseLenient(text); err == nil {
			entries = append(entries, conf)
		}
	}
	return entries
}
