// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/spf13/cobra"
)

type versionView struct {
	Version string `json:"version" doc:"version of this sockmapctl"`
	ABI     int    `json:"abi" doc:"ABI of the pinned state that this sockmapctl can use"`
	Go      string `json:"go" doc:"version of the compiler"`
	Loaded  string `json:"loaded" doc:"version that loaded the pinned state; empty when nothing usable is loaded"`
}

func versionCommand(a *app) *cobra.Command {
	cmd := a.withOutput(&cobra.Command{
		Use:     "version",
		Short:   "Print the versions of sockmapctl and of the loaded programs",
		Long:    "Prints the version of this program and of the programs that are loaded.",
		Example: `  sockmapctl version`,
	}, formatsOfObject...)
	return runs(cmd, func(*cobra.Command) error {
		v := versionView{Version: version.String(), ABI: int(datapath.ABI), Go: runtime.Version(),
			Loaded: loadedVersion(a.dir)}
		if a.isDocument() {
			return a.printDocument("Version", v)
		}
		loaded := v.Loaded
		if loaded == "" {
			loaded = "nothing that this program can read"
		}
		return a.say("sockmapctl %s (ABI %d, %s)\nloaded: %s", v.Version, v.ABI, v.Go, loaded)
	})
}

// loadedVersion ignores errors, because version also runs without privileges.
func loadedVersion(dir string) string {
	d, err := datapath.Open(dir)
	if err != nil {
		return ""
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		return ""
	}
	return cfg.Version
}
