// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// Entries returns what the plugin makes of each of its entries in a directory of network configurations, drop-ins
// included, with the network's name. It is for looking only: files that cannot be read, and entries that are no JSON, are left out.
func Entries(confDir string) []*cniconf.Conf {
	var entries []*cniconf.Conf
	for _, e := range entriesIn(confDir) {
		if conf, err := cniconf.ParseLenient(e.text); err == nil {
			conf.Name = e.network
			entries = append(entries, conf)
		}
	}
	return entries
}

// ValidEntries is Entries for those who act by them: an entry with a wrong value is left out, as each ADD would fail by it. The
// error names the file and what is wrong.
func ValidEntries(confDir string) ([]*cniconf.Conf, error) {
	var (
		entries []*cniconf.Conf
		errs    []error
	)
	for _, e := range entriesIn(confDir) {
		conf, err := cniconf.Parse(e.text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: entry of sockmap: %w", e.file, err))
			continue
		}
		conf.Name = e.network
		entries = append(entries, conf)
	}
	return entries, errors.Join(errs...)
}

// foundEntry is one entry of the plugin.
type foundEntry struct {
	file, network string
	text          []byte
}

func entriesIn(confDir string) (found []foundEntry) {
	files, _ := networkFiles(confDir)
	for _, path := range files {
		n, err := loadNetwork(path)
		if err != nil {
			continue
		}
		for _, p := range n.list.Plugins {
			if p.Network.Type == PluginType {
				found = append(found, foundEntry{path, n.list.Name, p.Bytes})
			}
		}
	}
	dropIns, _ := (&Installer{ConfDir: confDir}).dropIns()
	for _, path := range dropIns {
		if text, err := os.ReadFile(path); err == nil {
			// A drop-in is in the directory that has the network's name.
			found = append(found, foundEntry{path, filepath.Base(filepath.Dir(path)), text})
		}
	}
	return found
}
