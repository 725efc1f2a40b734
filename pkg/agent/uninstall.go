// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"
)

// shutDown gives up the claim, and uninstalls if that is configured, asked for, and no other agent has taken
// over.
func (a *Agent) shutDown(mayUninstall bool) error {
	owner := a.claim == nil
	if a.claim != nil {
		who, _ := a.claim.Holder()
		owner = who == ""
		if err := a.claim.Release(); err != nil {
			a.log().Warn("give up the claim", "error", err)
		}
	}
	if a.Uninstall == nil || !mayUninstall || a.Uninstalling {
		return nil
	}
	if !owner {
		a.log().Info("nothing is uninstalled: another agent has taken over")
		return nil
	}
	return a.uninstall()
}

// uninstallLoop uninstalls repeatedly: another agent may prevent it for a while, and a stub is removed only
// when no container needs it any more.
func (a *Agent) uninstallLoop(ctx context.Context) error {
	retry := backoff{first: time.Second, most: a.recheck()}
	for ctx.Err() == nil {
		wait, err := a.recheck(), a.uninstall()
		if err != nil {
			wait = retry.next()
		}
		a.health.set(partGone, err)
		a.report("uninstall", err, "the uninstall is not complete")
		a.health.beat()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func (a *Agent) uninstall() error {
	r := *a.Uninstall
	ctx, cancel := context.WithTimeout(context.Background(), r.DrainFor+r.WaitFor+r.LingerFor+time.Minute)
	defer cancel()
	done, err := a.Installer.Uninstall(ctx, r)
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	if a.Uninstalling && !done.Changed() {
		return nil // nothing has changed since the last round
	}
	a.log().Info("uninstalled", "unchained", done.Unchained, "givenBack", done.GivenBack, "unloaded",
		done.Unloaded,
		"unloadedFrom", done.UnloadedFrom,
		"undrained", done.Undrained, "binaryRemoved", done.Binary, "stubFor", len(done.Stub))
	return nil
}
