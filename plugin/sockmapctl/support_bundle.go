// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/ownfile"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/bundle"
	"github.com/spf13/cobra"
)

// toStdout is the file name that means standard output.
const toStdout = "-"

// bundleOptions are the flags of support-bundle.
type bundleOptions struct {
	pods                     podFlags
	file, configFile         string
	withAddresses, withNames bool
	logBytes                 int64
}

func bundleCommand(a *app) *cobra.Command {
	var o bundleOptions
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Write what a question or a bug report needs into one file",
		Long: `Writes one tar.gz with the output of the commands that read (status, doctor,
attachments, flows, avoided, policy, metrics, version), other programs in the
cgroups, what the kernel is like, the configuration, and the end of the plugin's
logFile. It changes nothing, and has no byte of any connection.

IP addresses, and names of pods, namespaces and the node, are replaced by
pseudonyms, which are the same in all parts. Container ids, paths of cgroups and
ports stay. Read the bundle before you send it.

A part that fails does not end the bundle: errors.txt has the reason, and the
exit code is 0. manifest.json lists the parts, and what was left out. The file
is made with mode 0600; a symbolic link is not followed.`,
		Example: `  sockmapctl support-bundle
  sockmapctl support-bundle -o /root/bundle.tar.gz --with-names
  kubectl -n kube-system exec POD -- /usr/local/bin/sockmapctl support-bundle -o - > bundle.tar.gz`,
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "output", "o", "",
		"`FILE` to write; -: standard output (default: sockmap-support-TIME.tar.gz here)")
	flags.BoolVar(&o.withAddresses, "with-addresses", false, "keep IP addresses")
	flags.BoolVar(&o.withNames, "with-names", false, "keep names of pods, namespaces and the node")
	flags.StringVar(&o.configFile, configFileFlag, "", "YAML `FILE` of the agent (default: "+hostConfigFile+
		" if it is there)")
	flags.Int64Var(&o.logBytes, "log-bytes", 256<<10, "how many `BYTES` of the end of each logFile; 0: none")
	o.pods.flags(a, cmd)
	before(cmd, func() error {
		if o.logBytes < 0 {
			return fmt.Errorf("--log-bytes: %d is less than 0", o.logBytes)
		}
		return nil
	})
	return runs(cmd, func(cmd *cobra.Command) error {
		if err := a.writeBundle(cmd.Context(), &o); err != nil {
			return fmt.Errorf("support bundle: %w", err)
		}
		return nil
	})
}

func (a *app) writeBundle(ctx context.Context, o *bundleOptions) (err error) {
	made := time.Now().UTC().Truncate(time.Second)
	dir := "sockmap-support-" + made.Format("20060102T150405Z")
	out, path := a.stdout, toStdout
	if o.file != toStdout {
		path = cmp.Or(o.file, dir+".tar.gz")
		// The file is opened before the parts are read, so that a file that cannot be written fails at once.
		file, err := ownfile.Open(path, os.O_WRONLY|os.O_TRUNC, ownfile.Demand{Forbidden: 0o077})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	} else if a.width > 0 {
		return errors.New("standard output is a terminal (redirect it, or name a file: -o FILE)")
	}
	parts := a.bundleParts(ctx, o)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	scrubber := bundle.NewScrubber(o.withAddresses, o.withNames)
	if node, err := os.Hostname(); err == nil {
		scrubber.LearnNode(node)
	}
	manifest := bundle.Manifest{Version: version.String(), Made: made}
	if err := bundle.Write(out, dir, manifest, parts, scrubber); err != nil {
		return err
	}
	return a.sayBundle(path, parts)
}

// sayBundle prints to standard error if the bundle is written to standard output.
func (a *app) sayBundle(path string, parts []bundle.Part) error {
	var failed []string
	for _, p := range parts {
		if p.Err != nil {
			failed = append(failed, p.Name)
		}
	}
	to := a.stdout
	if path == toStdout {
		if len(failed) == 0 {
			return nil
		}
		to = a.stderr
	}
	text := fmt.Sprintf("wrote %d parts to %s", len(parts)-len(failed), path)
	if len(failed) > 0 {
		text += fmt.Sprintf("; not whole, see %s in it: %s", bundle.ErrorsFile, strings.Join(failed, ", "))
	}
	if _, err := io.WriteString(to, text+"\n"); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
