// SPDX-License-Identifier: Apache-2.0

package adopt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/admit"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
)

// Change is what has become another for a pod that runs, because its network's entry or its annotations have.
type Change struct {
	Pod  pods.Pod // the zero pod: of the whole node
	What []string // each in words, as "peers: node, now namespace"
}

// Follow brings what is in force for pods that wanted chooses and that have a record to what is configured for them now, and the settings of the node,
// too. Live connections follow within a second. It goes on after errors of single pods, which it joins.
func (a *Adopter) Follow(ctx context.Context, wanted func(pods.Pod) bool) ([]Change, error) {
	l, err := a.look(ctx)
	var changes []Change
	errs := []error{err}
	for _, p := range l.found {
		if p.From == pods.FromProcesses || p.Unsure || !wanted(p) {
			continue // nobody says what its annotations are
		}
		what, err := a.follow(ctx, p, l)
		if err != nil {
			errs = append(errs, fmt.Errorf("pod %s: %w", p, err))
		}
		if len(what) > 0 {
			changes = append(changes, Change{p, what})
		}
	}
	what, err := a.followSettings(ctx, l.confs)
	if len(what) > 0 {
		changes = append(changes, Change{What: what})
	}
	return changes, errors.Join(append(errs, err)...)
}

func (a *Adopter) follow(ctx context.Context, p pods.Pod, l look) (what []string, err error) {
	var errs []error
	for _, at := range attachmentsOf(p, l.confs) {
		record, ok := recordOf(l.records[p.ID], at)
		if !ok {
			continue
		}
		call, sb := a.call(p, at)
		differ, err := call.Differences(record)
		if err != nil || len(differ) == 0 {
			errs = append(errs, err)
			continue
		}
		if err := call.Change(ctx, sb); err != nil {
			errs = append(errs, err)
			continue
		}
		what = append(what, differ...)
		errs = append(errs, a.takeBack(ctx, call.Node, sb))
	}
	return what, errors.Join(errs...)
}

func recordOf(own []endpoint.Record, at attachment) (r endpoint.Record, ok bool) {
	i := slices.IndexFunc(own, func(r endpoint.Record) bool { return r.OfNetwork(at.Network) && r.IfName == at.IfName })
	if i < 0 {
		return r, false
	}
	return own[i], true
}

// followSettings sets what can change at any time of a state directory, where all entries that name it agree.
func (a *Adopter) followSettings(ctx context.Context, confs []*cniconf.Conf) (what []string, err error) {
	var errs []error
	for dir, settings := range agreed(confs) {
		node := a.Node(&cniconf.Conf{BPFFSPath: dir})
		node.Settings = settings
		changed, err := node.ApplySettings(ctx)
		if err != nil && !errors.Is(err, datapath.ErrNotLoaded) {
			errs = append(errs, err)
		}
		what = append(what, changed...)
	}
	return what, errors.Join(errs...)
}

// agreed are the settings of each state directory about which its entries do not differ.
func agreed(confs []*cniconf.Conf) map[string]datapath.Settings {
	all, split := map[string]datapath.Settings{}, map[string]bool{}
	for _, conf := range confs {
		s := admit.Settings(conf, nil)
		if other, ok := all[conf.BPFFSPath]; ok && other.Live() != s.Live() {
			split[conf.BPFFSPath] = true
		}
		all[conf.BPFFSPath] = s
	}
	for dir := range split {
		delete(all, dir)
	}
	return all
}
