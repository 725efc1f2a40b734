// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
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

func installCommand(a *app) *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the plugin and add its entry to the network configuration",
		Long: `Copies the plugin to the directory where runtimes look for plugins, and adds its
entry to the network configuration that they load. A file with a single plugin
is replaced by a list, which uninstall undoes. Nothing else in the file changes:
see docs/INSTALL.md.

Running containers are not touched. The same command updates an installation. At
the end it prints the verdict of doctor for this kernel and that entry.`,
		Example: `  sockmapctl install
  sockmapctl install --config '{"peers": "namespace"}' --accept-hazards splice`,
	}
	f.flags(a, cmd)
	return runs(cmd, func(cmd *cobra.Command) error {
		i := f.installer()
		for _, warning := range f.entry.Conf.Warnings {
			fmt.Fprintf(a.stderr, "sockmapctl: --config: %s\n", warning)
		}
		changed, err := i.InstallBinary(cmd.Context())
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		if err := a.say("%s %s", already(changed, "installed"), i.Binary()); err != nil {
			return err
		}
		c, err := i.Chain(cmd.Context())
		for _, s := range c.Skipped {
			fmt.Fprintf(a.stderr,
				"sockmapctl: %s cannot be loaded: %v (containerd loads nothing while it sorts first)\n",
				s.Path, s.Err)
		}
		if errors.Is(err, install.ErrNoNetwork) {
			err = fmt.Errorf("%w (install a network plugin first)", err)
		}
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		done := already(c.Changed, "chained into")
		if err := a.say("%s network %s, in %s", done, c.Network, c.Path); err != nil {
			return err
		}
		if err := a.forgetUnload(cmd.Context()); err != nil {
			return err
		}
		return a.sayOutlook(cmd.Context(), f.entry.Conf)
	})
}

// forgetUnload lets the agent load again after an unload. The kill switch does not change.
func (a *app) forgetUnload(ctx context.Context) error {
	changed, err := a.node(datapath.Settings{}).ForgetUnload(ctx)
	if err != nil {
		return fmt.Errorf("install: let the agent load again: %w", err)
	}
	if !changed {
		return nil
	}
	text := "the programs were unloaded with sockmapctl unload; the agent, or the next container, loads " +
		"them again"
	if datapath.StaysDisabled(a.dir) {
		text += ", disabled as they were (sockmapctl enable)"
	}
	return a.say("%s", text)
}

func already(changed bool, done string) string {
	if changed {
		return done
	}
	return "already " + done
}

// removalFlags describe the removal of the plugin. uninstall and agent have them.
type removalFlags struct {
	cacheDirs []string
	drain     time.Duration
}

// linger is how long an ADD that has begun may take until it calls the plugin.
const linger = 2 * time.Second

func (f *removalFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.cacheDirs, "cni-cache-dir", []string{install.DefaultCacheDir},
		"`DIRS` of the cache that runtimes run DEL from; empty: none do")
	mayBeEmpty(cmd, "cni-cache-dir")
	cmd.Flags().DurationVar(&f.drain, "drain-timeout", 30*time.Second,
		"`TIME` that readers have to read redirected bytes")
	before(cmd, func() error { return notNegative("--drain-timeout", f.drain) })
}

func (f *removalFlags) removal(a *app) install.Removal {
	return install.Removal{
		Node: a.node(datapath.Settings{}), NodeAt: a.nodeAt, CacheDirs: f.cacheDirs, DrainFor: f.drain,
		LingerFor: linger,
	}
}

// nodeAt is this machine with another state directory; nil if dir is the one of this run.
func (a *app) nodeAt(dir string) install.Node {
	if dir == a.dir {
		return nil
	}
	n := a.node(datapath.Settings{})
	n.Dir = dir
	return n
}

func notNegative(flag string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s: %v is negative", flag, d)
	}
	return nil
}

func uninstallCommand(a *app) *cobra.Command {
	var (
		file  configFile
		place placeFlags
		how   removalFlags
		wait  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the plugin from this node; live flows continue over TCP",
		Long: `Removes the plugin's entry from all network configurations, sends live flows to
TCP, waits until the readers have read all redirected bytes, and removes the
programs and the binary.

CRI-O and podman call the plugin once more for each running container. While
there are such containers, a stub stays in place of the plugin. It does nothing
and succeeds. Repeat the command to remove it.`,
		Example: `  sockmapctl uninstall
  sockmapctl uninstall --wait 10m`,
	}
	file.flag(a, cmd)
	place.flags(cmd)
	how.flags(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "`TIME` to wait until no container needs the stub")
	before(cmd, func() error {
		return errors.Join(file.useDir(a, cmd), place.check(), notNegative("--wait", wait))
	})
	return runs(cmd, func(cmd *cobra.Command) error {
		r := how.removal(a)
		r.WaitFor = wait
		i := place.installer()
		done, err := i.Uninstall(cmd.Context(), r)
		lines := a.removed(i, done)
		if err == nil && len(lines) == 0 {
			lines = []string{"there is nothing to uninstall"}
		}
		for _, line := range lines {
			if err := a.say("%s", line); err != nil {
				return err
			}
		}
		if err == nil {
			err = a.switchOffStrays(false)
		}
		if err != nil {
			return fmt.Errorf("uninstall: %w", err)
		}
		return nil
	})
}

// removed describes what was done, one line for each step.
func (a *app) removed(i *install.Installer, done install.Removed) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, path := range done.Unchained {
		say("took sockmap out of %s", path)
	}
	for _, path := range done.GivenBack {
		say("gave back %s", path)
	}
	if done.Undrained > 0 {
		say("%d sockets have redirected bytes that nobody has read; they can still be read", done.Undrained)
	}
	if done.Unloaded {
		say("unloaded from %s; live flows continue over TCP", a.dir)
	}
	for _, dir := range done.UnloadedFrom {
		say("unloaded from %s, which an entry named; live flows continue over TCP", dir)
	}
	if done.Binary {
		say("removed %s", i.Binary())
	}
	if stub := stubReason(done); stub != "" {
		say("left a stub at %s: %s (repeat this later)", i.Binary(), stub)
	}
	return lines
}

// stubReason is empty when no stub was left.
func stubReason(done install.Removed) string {
	const most = 3
	if done.Binary {
		return ""
	}
	if done.CacheError != nil {
		return done.CacheError.Error()
	}
	var names []string
	for n, attachment := range done.Stub {
		if n == most {
			names = append(names, fmt.Sprintf("and %d more", len(done.Stub)-most))
			break
		}
		names = append(names, term.Printable(attachment.String()))
	}
	if len(names) == 0 {
		return ""
	}
	return "cached attachments name it: " + strings.Join(names, ", ")
}
