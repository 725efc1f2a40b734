// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func unloadCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "unload",
		Short: "Remove all programs, maps and links; live flows continue over TCP",
		Long: `Sends live flows to TCP, without loss, and removes everything that is pinned.
Running containers are not accelerated again until they are added again.

The agent loads again only after load, enable or install, or when a container is
added: ADD loads. After disable, the next load is disabled, too. A reboot resets
both.

--force also removes damaged state and state of other versions, and switches off
flows that no pin leads to. If flows cannot be switched off, nothing is removed,
and the command fails.`,
		Example: `  sockmapctl unload`,
	}
	cmd.Flags().BoolVar(&force, "force", false, "also remove damaged state and state of other versions")
	return runs(cmd, func(cmd *cobra.Command) error {
		kept, evict := a.readKept(true), a.evicting()
		defer evict.close()
		unloaded, err := a.node(datapath.Settings{}).UnloadOnRequest(cmd.Context(), force)
		if err != nil {
			return fmt.Errorf("unload: %w", err)
		}
		if unloaded {
			err = errors.Join(evict.end(&kept), a.sayUnloaded(kept))
		} else {
			err = a.say("nothing is loaded at %s", a.dir)
		}
		if err != nil {
			return err
		}
		if err := a.switchOffStrays(force); err != nil {
			return fmt.Errorf("unload: %w", err)
		}
		return nil
	})
}

func (a *app) sayUnloaded(kept keptView) error {
	lines := append([]string{fmt.Sprintf("unloaded from %s; live flows continue over TCP", a.dir)},
		kept.lines()...)
	lines = append(lines,
		"the next ADD loads again; the agent does not load before that, or before: sockmapctl load")
	if datapath.StaysDisabled(a.dir) {
		lines = append(lines, "it was disabled: the next load is disabled, too, until: sockmapctl enable")
	}
	return a.sayAll(lines)
}

func (a *app) sayAll(lines []string) error {
	for _, line := range lines {
		if err := a.say("%s", line); err != nil {
			return err
		}
	}
	return nil
}

// switchOffStrays looks for flows that no pin leads to. Without force it only reports them, as an error: the
// unload did not reach them. From inside a container they may belong to another node on the same kernel, and
// are not touched. Neither are private loads of processes that run.
func (a *app) switchOffStrays(force bool) error {
	if a.host.strays == nil {
		return nil
	}
	all, err := a.host.strays()
	if errors.Is(err, unix.EPERM) {
		fmt.Fprintln(a.stderr, "sockmapctl: only root can find flows that no pin leads to (CAP_SYS_ADMIN)")
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for flows that no pin leads to: %w", err)
	}
	var errs []error
	for _, s := range all {
		if s.UsedBy != "" {
			continue // a bench or a probe, which ends by itself
		}
		if !s.Sure {
			fmt.Fprintf(a.stderr, "sockmapctl: %s; to find out, run sockmapctl status on the node itself\n",
				strayText(s))
			continue
		}
		if !force {
			errs = append(errs, fmt.Errorf("%s: %w (send them to TCP with: sockmapctl unload --force)",
				strayText(s), datapath.ErrStillRedirected))
			continue
		}
		if err := s.SwitchOff(); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, a.say("%s: sent to TCP", strayText(s)))
	}
	return errors.Join(errs...)
}

func strayText(s datapath.Stray) string {
	sockets := fmt.Sprintf("%s of ABI %d", term.Number(s.Sockets, "socket", "sockets"), s.ABI)
	if s.UsedBy != "" {
		return fmt.Sprintf("%s that %s has loaded for itself (config is map %d)", sockets, s.UsedBy, s.Config)
	}
	text := fmt.Sprintf("%s that no pin leads to (config is map %d)", sockets, s.Config)
	if !s.Sure {
		text += ", unless another container has pins that cannot be seen from this one"
	}
	return text
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
