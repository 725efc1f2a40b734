// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

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
