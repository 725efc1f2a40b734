// SPDX-License-Identifier: Apache-2.0

// Package agent is the process of the DaemonSet: it installs the plugin on its node and keeps it installed,
// loads the programs, removes what containers that are gone have left, and serves metrics. It does not use
// the Kubernetes API.
//
// # Order
//
// The agent first tries the new plugin beside its place, then loads or upgrades the programs, then puts the
// plugin in its place, and last adds the entry to the network configuration. So a runtime never sees a plugin
// that cannot work yet. If the node refuses to run the new plugin, programs that only it can use are not
// loaded. If an upgrade of the programs fails, the plugin that works with the loaded ones stays.
//
// Directories are watched before they are read, so no change is missed. They are also read at intervals, in
// case an event was missed.
//
// # What it never does
//
// It does not end acceleration when it exits, unless it is asked to: containers continue as they are, and the
// next agent finds everything in place.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/pkg/metrics"
	"github.com/sockmap-cni/sockmap-cni/pkg/selinux"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"golang.org/x/sys/unix"
)

// Default intervals.
const (
	DefaultRecheck = 30 * time.Second
	DefaultPoll    = 2 * time.Second
	DefaultReap    = time.Minute
)

// settle is how long the agent waits for further events before it reads: a process that writes a file causes
// several.
const settle = 100 * time.Millisecond

// Agent keeps sockmap installed on one node.
type Agent struct {
	Installer *install.Installer
	Node      *endpoint.Node
	Metrics   *metrics.Collector
	Log       *slog.Logger // nil: nothing is logged

	Listen     string    // address of the HTTP server; empty: none
	ReadyMeans Readiness // empty: ReadyInstalled

	Recheck time.Duration // longest time between two rounds; 0: DefaultRecheck
	Poll    time.Duration // the same while directories cannot be watched; 0: DefaultPoll
	Reap    time.Duration // interval of reaping; 0: DefaultReap

	// Pods lists and adopts the running pods. nil: there is no metric of pods, and no running pod follows the
	// configuration. Its nodes must never load.
	Pods      *adopt.Adopter
	Adopt     bool          // accelerate pods that ran before the installation
	PodsEvery time.Duration // interval of reading the pods; 0: DefaultPodsEvery

	// Uninstall: the agent uninstalls when it ends. nil: everything stays.
	Uninstall *install.Removal
	// Uninstalling: the agent uninstalls at once instead of installing. It keeps running, and is ready once
	// nothing of sockmap is left on the node but the stub, if that is needed. It requires Uninstall.
	Uninstalling bool

	// Serving, if not nil, is called with the address once the server listens.
	Serving func(address string)

	health        health
	counters      counters
	watch         watcher
	throttle      throttles
	heldFor       time.Duration // until the file that the last round had to leave may be repaired; 0: none
	claim         *install.Claim
	written       map[string][]byte // content of files as this agent wrote them
	installedOnce bool              // a round has succeeded
	reported      logOnce
	keeper        *podKeeper

	resizeNext time.Time // when settings that could not be applied are tried again
	resizeWhy  error
}

// Run works until ctx ends. It returns an error only if a new process is needed.
func (a *Agent) Run(ctx context.Context) error {
	a.written, a.throttle, a.keeper = map[string][]byte{}, throttles{}, newPodKeeper()
	a.Installer.Hold = a.mayChange
	a.health.init(a.recheck())
	background, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { a.serve(background) })
	wg.Go(func() { a.reap(background) })
	keep := a.loop
	if a.Uninstalling {
		keep = a.uninstallLoop
	} else {
		wg.Go(func() { a.podLoop(background) })
	}
	err := keep(ctx)
	stop()
	wg.Wait()
	a.watch.close()
	// After an error the agent is restarted, so it must not uninstall.
	return errors.Join(err, a.shutDown(err == nil))
}

func (a *Agent) log() *slog.Logger        { return cmp.Or(a.Log, slog.New(slog.DiscardHandler)) }
func (a *Agent) recheck() time.Duration   { return cmp.Or(a.Recheck, DefaultRecheck) }
func (a *Agent) poll() time.Duration      { return cmp.Or(a.Poll, DefaultPoll) }
func (a *Agent) reapEvery() time.Duration { return cmp.Or(a.Reap, DefaultReap) }

// loop watches, reads and acts, in this order, in rounds.
func (a *Agent) loop(ctx context.Context) error {
	retry := backoff{first: time.Second, most: time.Minute}
	for ctx.Err() == nil {
		wait := a.recheck()
		if !a.watching() {
			wait = a.poll()
		}
		if err := a.checkDirs(); err != nil {
			return err
		}
		err := a.round(ctx)
		if err != nil {
			wait = min(wait, retry.next())
		} else {
			retry.reset()
		}
		if a.heldFor > 0 {
			wait = min(wait, a.heldFor)
		}
		a.health.beat()
		if err != nil {
			a.pauseAfterFailure(ctx, min(wait, pauseMost))
		}
		a.waitForEvent(ctx, wait)
	}
	return nil
}

// pauseMost bounds how long an event has to wait after a round that failed.
const pauseMost = 2 * time.Second

// pauseAfterFailure waits after a round that failed, and discards the events until then: trying a plugin in
// its place causes events itself, and without the pause the agent would try again without end.
func (a *Agent) pauseAfterFailure(ctx context.Context, wait time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
	select {
	case <-a.watch.events():
	default:
	}
}

// waitForEvent waits for an event, but not longer than wait.
func (a *Agent) waitForEvent(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-a.watch.events():
	}
	select {
	case <-ctx.Done():
	case <-time.After(settle):
	}
}

// watching watches the directories that exist now. It reports whether that worked.
func (a *Agent) watching() bool {
	dirs := []string{a.Installer.BinDir, a.Installer.ConfDir}
	if a.Installer.DropIn {
		if c, _, err := a.Installer.Plan(); err == nil {
			dirs = append(dirs, filepath.Dir(c.Path))
		}
	}
	err := a.watch.refresh(dirs)
	a.counters.setPolling(err != nil)
	a.report("watch", err, "directories cannot be watched and are read every "+a.poll().String()+" instead")
	return err == nil
}

// checkDirs returns an error if a mounted directory was removed on the host: the container sees the removed
// directory until it is restarted.
func (a *Agent) checkDirs() error {
	for _, dir := range []string{a.Installer.BinDir, a.Installer.ConfDir} {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil && st.Nlink == 0 {
			return fmt.Errorf("%s was removed on the host, and this container still has the removed one mounted "+
				"(start this container again)", dir)
		}
	}
	return nil
}

// round does everything once.
func (a *Agent) round(ctx context.Context) error {
	a.heldFor = 0
	if who := a.otherHolder(ctx); who != "" {
		a.keeper.setActs(false)
		a.health.set(partNetwork, fmt.Errorf("%s has taken over", who))
		return nil
	}
	stays, errLoad := a.load(ctx)
	errBinary := a.installBinary(ctx, stays)
	errChain := a.chain(ctx, errBinary, errLoad)
	all := errors.Join(stays, errBinary, errLoad, errChain)
	a.installedOnce = a.installedOnce || all == nil
	a.keeper.setActs(all == nil)
	if errors.Is(errChain, install.ErrNoNetwork) {
		errChain = nil // the file's appearance will be an event
	}
	return errors.Join(stays, errBinary, errLoad, errChain)
}

// otherHolder returns the name of the agent that has taken over this node, or "".
func (a *Agent) otherHolder(ctx context.Context) string {
	if a.claim != nil {
		who, gone := a.claim.Holder()
		if who != "" {
			if a.reported.changed("claim", who) {
				a.log().Warn("another agent has taken over, and this one only watches from now on", "other", who)
			}
			return who
		}
		if !gone {
			return ""
		}
		a.claim.Release()
		a.claim = nil
	}
	host, _ := os.Hostname()
	claim, err := a.Installer.TakeClaim(ctx, fmt.Sprintf("agent %s of %s, process %d", version.String(), host,
		os.Getpid()))
	if err == nil {
		a.claim = claim
	}
	if errors.Is(err, os.ErrNotExist) {
		return "" // the directory does not exist yet, which is reported elsewhere
	}
	// Without the claim nothing can be written. What is there already may be enough.
	a.report("claim", err, "other agents cannot see that this one is in charge of the node")
	return ""
}

var errPluginStays = errors.New("the installed plugin stays with the programs of its version")

// installBinary installs the plugin of this version. stays is why programs of another version stay loaded:
// then the installed plugin stays as well, because it works with them and the new one may not.
func (a *Agent) installBinary(ctx context.Context, stays error) error {
	if stays != nil {
		there, err := a.Installer.HasPlugin()
		a.report("install", err, "the plugin is not installed")
		if there || err != nil {
			a.health.set(partBinary, cmp.Or(err, errPluginStays))
			return err
		}
	}
	changed, err := a.Installer.InstallBinary(ctx)
	a.health.set(partBinary, err)
	a.report("install", err, "the plugin is not installed")
	if changed {
		a.log().Info("installed the plugin", "file", a.Installer.Binary())
		if a.installedOnce {
			a.logRepair(a.Installer.Binary(), "the plugin was removed or changed", "", 0)
		}
	}
	return err
}

// chain adds the entry to the network configuration. Without the plugin's binary it must not be there.
// Without programs it is useless, unless acceleration is required: then the plugin refuses containers.
func (a *Agent) chain(ctx context.Context, errBinary, errLoad error) error {
	if errBinary != nil || errLoad != nil && !a.Installer.Entry.Conf.Required {
		a.checkChained()
		return nil
	}
	c, err := a.Installer.Chain(ctx)
	for _, s := range c.Skipped {
		a.report("skipped "+s.Path, s.Err, "containerd loads no network at all while this file sorts before the "+
			"others")
	}
	if errors.Is(err, errHeld) {
		a.health.set(partNetwork, errNotChained)
		return nil
	}
	a.health.set(partNetwork, err)
	a.report("chain", err, "the plugin is not in the network configuration")
	if c.Changed {
		a.logChained(c)
	}
	if err == nil {
		a.written[c.Path] = c.After
	}
	return err
}

// checkChained only reports whether the entry is in place.
func (a *Agent) checkChained() {
	_, done, err := a.Installer.Plan()
	if err == nil && !done {
		err = errNotChained
	}
	a.health.set(partNetwork, err)
}

// report logs an error if it differs from the last one of its subject, and logs when it is resolved.
func (a *Agent) report(subject string, err error, consequence string) {
	text := ""
	switch {
	case errors.Is(err, context.Canceled):
		return // the agent ends
	case err != nil:
		err = selinux.Explain(err)
		text = err.Error()
		a.counters.failure()
	}
	if !a.reported.changed(subject, text) {
		return
	}
	switch {
	case err == nil:
		a.log().Info("resolved", "subject", subject)
	case errors.Is(err, install.ErrNoNetwork):
		a.log().Info("waiting for a network configuration", "reason", err)
	default:
		a.log().Error(consequence, "error", err)
	}
}

// reap removes at intervals what containers that are gone have left.
func (a *Agent) reap(ctx context.Context) {
	ticker := time.NewTicker(a.reapEvery())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		removed, err := a.Node.Reap(ctx)
		for _, r := range removed {
			a.log().Info("reaped", "kind", r.Kind, "name", r.Name, "why", r.Why)
		}
		a.counters.reap(len(removed))
		if err != nil && ctx.Err() == nil {
			a.log().Warn("reap what containers left", "error", err)
		}
	}
}
