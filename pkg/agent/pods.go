// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
)

// DefaultPodsEvery is how often the agent reads the running pods. A change of the network configuration
// triggers it at once.
const DefaultPodsEvery = 5 * time.Second

// podsTime bounds one update of the pods with all its changes: a runtime may not respond.
const podsTime = 30 * time.Second

// podKeeper updates the pods of the node, beside the loop that keeps the installation.
type podKeeper struct {
	wake chan struct{} // an element: update now

	mu       sync.Mutex
	acts     bool              // the installation is in place, and no other agent has taken over
	statuses []adopt.PodStatus // of the last update
	looked   time.Time         // time of the last update without an error; zero: never
}

func newPodKeeper() *podKeeper { return &podKeeper{wake: make(chan struct{}, 1)} }

// setActs sets whether pods may be changed, and wakes the keeper.
func (k *podKeeper) setActs(act bool) {
	k.mu.Lock()
	k.acts = act
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *podKeeper) mayAct() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.acts
}

// setStatuses keeps the result of an update. After an error the last result stays.
func (k *podKeeper) setStatuses(stood []adopt.PodStatus, err error) {
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.statuses, k.looked = stood, time.Now()
}

func (k *podKeeper) lastStatuses() ([]adopt.PodStatus, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.statuses, k.looked
}

func anyPod(pods.Pod) bool { return true }

// podLoop updates the pods until ctx ends.
func (a *Agent) podLoop(ctx context.Context) {
	if a.Pods == nil {
		return
	}
	ticker := time.NewTicker(cmp.Or(a.PodsEvery, DefaultPodsEvery))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.keeper.wake:
		case <-ticker.C:
		}
		a.updatePods(ctx)
	}
}

// updatePods applies changes of the configuration, adopts pods, and keeps the resulting statuses.
func (a *Agent) updatePods(ends context.Context) {
	ctx, cancel := context.WithTimeout(ends, podsTime)
	defer cancel()
	act := a.Pods.StatusOf
	// If a user has unloaded the programs, pods must stay as they are.
	if a.keeper.mayAct() && a.isLoaded() {
		changes, err := a.Pods.Follow(ctx, anyPod)
		settings, errSettings := a.Pods.FollowSettings(ctx)
		for _, what := range settings {
			a.log().Info("settings of the node follow the configuration", "change", what)
		}
		err = errors.Join(err, errSettings)
		a.report("configuration of pods", err, "running pods do not all follow their configuration")
		for _, c := range changes {
			a.logFollowed(c)
		}
		if a.Adopt {
			act = a.Pods.Adopt
		}
	}
	stood, err := act(ctx, fromRuntime)
	if ends.Err() != nil {
		return
	}
	a.report("pods", err, "not all pods of this node are seen, and running ones may not be adopted")
	a.keeper.setStatuses(stood, err)
	for _, s := range stood {
		a.logAdopted(s)
	}
}

func (a *Agent) isLoaded() bool {
	d, err := datapath.Open(a.Node.Dir)
	if err == nil {
		d.Close()
	}
	return err == nil
}

// fromRuntime excludes pods that are known only by their processes, which may be anything.
func fromRuntime(p pods.Pod) bool { return p.From != pods.FromProcesses }

func (a *Agent) logFollowed(c adopt.Change) {
	for _, what := range c.What {
		a.log().Info("a running pod follows its configuration", "pod", c.Pod.String(), "container", c.Pod.ID,
			"change", what)
	}
}

func (a *Agent) logAdopted(s adopt.PodStatus) {
	if s.Adopted {
		a.counters.adopt()
		a.log().Info("adopted a pod that ran before", "pod", s.String(), "container", s.ID, "state",
			string(s.State),
			"reason", s.Reason)
	}
}
