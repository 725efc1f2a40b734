// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// Entries returns the parsed entries of the plugin in a directory of network configurations, including
// drop-ins, with the names of their networks. It is for reports: it leaves out files that cannot be read and
// entries that are not JSON.
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

// ValidEntries is Entries for callers that act on the result. It leaves out entries with a wrong value, for
// which each ADD would fail. The error names the files and what is wrong.
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
			// The directory of a drop-in has the network's name.
			found = append(found, foundEntry{path, filepath.Base(filepath.Dir(path)), text})
		}
	}
	return found
}
