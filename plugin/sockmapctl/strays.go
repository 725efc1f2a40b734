// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"golang.org/x/sys/unix"
)

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
