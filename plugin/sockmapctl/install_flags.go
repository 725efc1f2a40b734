// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/spf13/cobra"
)

// placeFlags are the directories of a node's plugins and network configurations.
type placeFlags struct{ binDir, confDir string }

func (f *placeFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.binDir, "cni-bin-dir", install.DefaultBinDir,
		"`DIR` where runtimes find plugins")
	cmd.Flags().StringVar(&f.confDir, "cni-conf-dir", install.DefaultConfDir,
		"`DIR` of network configurations")
}

func (f *placeFlags) check() error {
	return errors.Join(absolute("--cni-bin-dir", f.binDir), absolute("--cni-conf-dir", f.confDir))
}

func absolute(flag, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s: %q is not an absolute path", flag, path)
	}
	return nil
}

func (f *placeFlags) installer() *install.Installer {
	return &install.Installer{BinDir: f.binDir, ConfDir: f.confDir}
}

// installFlags describe the installation. install and agent have them.
type installFlags struct {
	placeFlags
	plugin, confName, config string
	dropIn                   bool
	accepted                 hazardNames
	file                     configFile

	entry install.Entry // of them all, once they are checked
}

func (f *installFlags) flags(a *app, cmd *cobra.Command) {
	f.file.flag(a, cmd)
	f.placeFlags.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.plugin, "plugin", "",
		"`FILE` of the plugin to install (default: sockmap, beside this program or in "+
			"../libexec/sockmap-cni)")
	flags.StringVar(&f.confName, "cni-conf-name", "",
		"`FILE` in that directory to chain into (default: the one that runtimes load first)")
	flags.BoolVar(&f.dropIn, "drop-in", false,
		"put the entry into the network's directory, not into its list (libcni 1.3)")
	flags.StringVar(&f.config, "config", "", "`JSON` object with keys of CONFIGURATION.md for the entry")
	f.accepted.flag(cmd, "`NAMES` of hazards that containers may meet, or all")
	before(cmd, func() error { return f.check(a, cmd) })
}

// check validates the flags and creates the entry.
func (f *installFlags) check(a *app, cmd *cobra.Command) error {
	err := f.placeFlags.check()
	if wrong := install.CheckConfName(f.confName); wrong != nil {
		err = errors.Join(err, fmt.Errorf("--cni-conf-name: %w", wrong))
	}
	if err != nil {
		return err
	}
	if f.entry, err = f.makeEntry(a, cmd); err != nil {
		return err
	}
	return f.agree(a, cmd)
}

// agree sets the same state directory for the plugin and for this program.
func (f *installFlags) agree(a *app, cmd *cobra.Command) (err error) {
	if !f.entry.Has("bpffsPath") {
		if a.dir != datapath.DefaultDir {
			f.entry, err = f.entry.With("bpffsPath", a.dir)
		}
		return err
	}
	if path := f.entry.Conf.BPFFSPath; a.dirGiven(cmd) && path != a.dir {
		return fmt.Errorf("--config: bpffsPath is %q, and --bpffs-path is %q (leave one out)", path, a.dir)
	}
	a.dir = f.entry.Conf.BPFFSPath
	return nil
}

func (f *installFlags) installer() *install.Installer {
	i := f.placeFlags.installer()
	i.Source, i.ConfName, i.DropIn, i.Entry = f.source(), f.confName, f.dropIn, f.entry
	i.Settle = time.Second
	return i
}

func (f *installFlags) source() string {
	if f.plugin != "" {
		return f.plugin
	}
	self, err := os.Executable()
	if err != nil {
		return install.PluginType
	}
	return pluginFor(self)
}
