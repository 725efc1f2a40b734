// SPDX-License-Identifier: Apache-2.0

// Package admit decides by the configuration of a network whether a sandbox is accelerated, opted out or
// declined. The plugin's ADD and the adoption of running containers both use it, so that their results are
// the same.
package admit

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
)

// Settings returns the node-wide settings of a configuration, for the programs of this version. find may be
// nil: hazards are not probed for.
func Settings(conf *cniconf.Conf, find datapath.Probe) datapath.Settings {
	return datapath.Settings{
		MaxSockets: conf.MaxSockets, MaxBacklogBytes: conf.MaxBacklogBytes,
		MaxBacklogMessages: conf.MaxBacklogMessages, NATRefreshSeconds: conf.NATRefreshSeconds,
		Coexist: datapath.Coexist(conf.Coexist), Helpers: datapath.Helpers(conf.ConntrackHelpers),
		Version: version.String(), Probe: find, ProbeSet: probe.Digest(), WithoutGuards: conf.GuardsOff(),
	}
}

// Call is one sandbox and its configuration.
type Call struct {
	Conf *cniconf.Conf
	Node *endpoint.Node
	Log  *slog.Logger
	// Explain adds a hint to an error for users. nil: errors stay as they are.
	Explain func(error) error
	// Running: the container runs already, so "required" cannot prevent its start.
	Running bool
}

// Apply accelerates the sandbox, or records why it is not accelerated. It returns an error only if
// acceleration was wanted and failed.
func (c Call) Apply(ctx context.Context, sb endpoint.Sandbox) error {
	if on, source := c.Conf.Accelerate(); !on {
		// Not an error of the call, not even with required: no acceleration was asked for.
		if err := c.optOut(ctx, sb, source); err != nil {
			c.Log.Warn("record opt-out", "error", err)
		}
		return nil
	}
	err := c.accelerate(ctx, sb, endpoint.Attachment{})
	if err != nil {
		c.recordDecline(ctx, sb, err)
	}
	return err
}

func (c Call) optOut(ctx context.Context, sb endpoint.Sandbox, source string) error {
	c.Log.Info("opted out", "by", source)
	return c.Node.OptOut(ctx, sb, "opted out by "+source)
}

// accelerate accelerates the sandbox. earlier is its attachment, if there is one: a cgroup that has a link is
// used again.
func (c Call) accelerate(ctx context.Context, sb endpoint.Sandbox, earlier endpoint.Attachment) error {
	if !earlier.LinkAlive {
		earlier.CgroupID = 0
	}
	out, err := c.Node.Add(ctx, sb, endpoint.Want{
		Policy: policyOf(c.Conf, sb), CgroupPath: c.Conf.CgroupPath, RuntimeCgroupPath: c.Conf.RuntimeCgroupPath,
		AcceptHazards: c.Conf.HazardsAccepted(), CgroupID: earlier.CgroupID, CgroupSource: earlier.CgroupSource,
	})
	if err != nil {
		if c.Explain != nil {
			err = c.Explain(err)
		}
		return err
	}
	c.logOutcome(out)
	return nil
}

func (c Call) logOutcome(out endpoint.Outcome) {
	done := "accelerated"
	if out.OptedOut {
		done = "registered, but stays on TCP: another network of this container has opted out"
	}
	if out.SwitchedOff != "" {
		done = "registered, but stays on TCP: a person has switched off " + out.SwitchedOff
	}
	c.Log.Info(done, "cgroup", out.Cgroup.Path, "source", out.Cgroup.Source, "netnsCookie", out.NetNSCookie,
		"loaded", out.Loaded, "disabled", out.Disabled)
	for _, note := range out.Cgroup.Notes {
		c.Log.Debug("cgroup", "note", note)
	}
	for _, r := range out.Reaped {
		c.Log.Info("reaped", "kind", r.Kind, "name", r.Name, "why", r.Why)
	}
}

// recordDecline records the reason for status.
func (c Call) recordDecline(ctx context.Context, sb endpoint.Sandbox, reason error) {
	// With required the container does not start. And if the lock is held, the call has waited for it long
	// enough.
	if c.Conf.Required && !c.Running || errors.Is(reason, endpoint.ErrBusy) {
		return
	}
	if err := c.Node.Decline(ctx, sb, reason); err != nil {
		c.Log.Debug("record reason", "error", err)
	}
}
