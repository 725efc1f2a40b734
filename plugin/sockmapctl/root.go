// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is one run: its environment, and the flags that all commands share.
type app struct {
	env
	dir       string
	output    string // format of -o
	noHeaders bool
}

const pathVariable = "SOCKMAP_BPFFS_PATH"

const rootLong = `sockmapctl shows and controls sockmap on this node. sockmap redirects TCP
between containers of one node past the TCP/IP stack.

Commands that only look change nothing. The other commands may be repeated: if
there is nothing left to do, they say that and succeed.

Exit codes:
  0  done
  1  error
  2  wrong usage
  3  sockmap is not loaded
  4  the pinned state is damaged, of another version, or not that of sockmap
  5  nothing is accelerated: open hazards (see doctor), or the kill switch

Environment:
  ` + pathVariable + `    default of --bpffs-path
  ` + confDirVariable + `  default of --cni-conf-dir
  ` + kubeletVariable + `       default of --kubelet`

func rootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "sockmapctl",
		Short: "Show and control TCP acceleration between containers of this node",
		Long:  rootLong,
		Example: `  sockmapctl status
  sockmapctl flows | head
  sockmapctl attachments -o wide`,
		Args:              unknownCommand,
		PersistentPreRunE: func(*cobra.Command, []string) error { return checkDir(a.dir) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Version:           version.String(),
		SilenceErrors:     true, // report prints them
		SilenceUsage:      true,
	}
	dir := a.getenv(pathVariable)
	if dir == "" {
		dir = datapath.DefaultDir
	}
	root.PersistentFlags().StringVar(&a.dir, "bpffs-path", dir,
		"`DIR` of the pinned state, bpffsPath of the plugin")
	root.Flags().Bool("version", false, "print the version of sockmapctl")
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Look at this node:", []*cobra.Command{
			statusCommand(a), attachmentsCommand(a), flowsCommand(a), topCommand(a), explainCommand(a),
			policyCommand(a), avoidedCommand(a), tapCommand(a), metricsCommand(a), doctorCommand(a),
			benchCommand(a), bundleCommand(a), versionCommand(a),
		}},
		{"Switch acceleration on and off:", []*cobra.Command{
			enableCommand(a), disableCommand(a), forgetCommand(a), adoptCommand(a), attachCommand(a),
			detachCommand(a),
		}},
		{"Load and maintain the BPF programs:", []*cobra.Command{
			loadCommand(a), upgradeCommand(a), unloadCommand(a), gcCommand(a),
		}},
		{"Install on this node:", []*cobra.Command{
			installCommand(a), uninstallCommand(a), uninstallNodesCommand(a), agentCommand(a),
		}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.title
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(docsCommand(a))
	root.SetGlobalNormalizationFunc(newName)
	root.SetFlagErrorFunc(unknownFlag)
	refuseEmpty(root)
	return root
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

// checkDir applies the plugin's rule for bpffsPath.
func checkDir(dir string) error {
	return checkFlag("--bpffs-path", "bpffsPath", dir)
}

// checkFlag checks the value of a flag against the rules of the plugin's configuration for key.
func checkFlag(flag, key string, value any) error {
	conf, err := json.Marshal(map[string]any{key: value})
	if err != nil {
		return err
	}
	var wrong *cniconf.FieldError
	if _, err = cniconf.Parse(conf); errors.As(err, &wrong) {
		return fmt.Errorf("%s: %s is not %s", flag, wrong.Value, wrong.Allowed)
	}
	return err
}

// runs makes f the work of cmd. Errors before f are wrong usage; errors of f are not, unless they are marked
// so.
func runs(cmd *cobra.Command, f func(cmd *cobra.Command) error) *cobra.Command {
	cmd.Args = noArguments
	// A use line that names its flags is complete.
	cmd.DisableFlagsInUseLine = strings.Contains(cmd.Use, " ")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f(cmd); err != nil {
			return &failure{err}
		}
		return nil
	}
	return cmd
}

// withOutput gives cmd the flag -o. The first of formats is the default.
func (a *app) withOutput(cmd *cobra.Command, formats ...string) *cobra.Command {
	// a.output cannot be the flag's variable: each flag sets its variable to the default when it is created,
	// and many commands have the flag.
	output := cmd.Flags().StringP("output", "o", formats[0], "`FORMAT`: "+term.OrList(formats))
	complete(cmd, "output", formats)
	before(cmd, func() error {
		a.output = *output
		if !slices.Contains(formats, a.output) {
			return fmt.Errorf("--output: %q is not %s", a.output, term.OrList(formats))
		}
		return nil
	})
	return cmd
}

// withList gives cmd the flags of commands that list things.
func (a *app) withList(cmd *cobra.Command) *cobra.Command {
	a.withOutput(cmd, formatsOfList...)
	noHeaders := cmd.Flags().Bool("no-headers", false, "omit the header")
	before(cmd, func() error {
		a.noHeaders = *noHeaders
		return nil
	})
	return cmd
}

// oldNames are former names of flags. They are accepted, but not shown.
var oldNames = map[string]string{"no-header": "no-headers", "sort": "sort-by"}

func newName(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	return pflag.NormalizedName(cmp.Or(oldNames[name], name))
}

// node is this machine as the plugin sees it. The settings only matter for a first load.
func (a *app) node(s datapath.Settings) *endpoint.Node {
	s.Version, s.Probe, s.ProbeSet = version.String(), a.probe, probe.Digest()
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return &endpoint.Node{Dir: a.dir, Settings: s, Log: log, Mount: a.host.mount, Root: a.host.files}
}

// before adds a check of flags to those of cmd. Errors begin with the flag, "--name: ".
func before(cmd *cobra.Command, check func() error) {
	earlier := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if earlier != nil {
			if err := earlier(cmd, args); err != nil {
				return err
			}
		}
		return blame(cmd, check())
	}
}

// defaultSettings are for commands that load as a side effect.
func defaultSettings() datapath.Settings {
	return datapath.Settings{
		MaxSockets:         cniconf.DefaultMaxSockets,
		MaxBacklogBytes:    cniconf.DefaultMaxBacklogBytes,
		MaxBacklogMessages: cniconf.DefaultMaxBacklogMessages,
		NATRefreshSeconds:  cniconf.DefaultNATRefreshSeconds,
	}
}

func (a *app) isLoaded() bool {
	d, err := datapath.Open(a.dir)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return false
	}
	if err == nil {
		d.Close()
	}
	return true
}
