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
	Pod  pods.Pod
	What []string // each in words, as "peers: node, now namespace"
}

// Follow brings what is in force for pods that wanted chooses and that have a record to what is configured for them now.
// Live connections follow within a second. It goes on after errors of single pods, which it joins.
func (a *Adopter) Follow(ctx context.Context, wanted func(pods.Pod) bool) ([]Change, error) {
	l, err := a.read(ctx)
	var changes []Change
	errs := []error{err}
	for _, p := range l.pods {
		if p.From == pods.FromProcesses || p.Unsure || !wanted(p) {
			continue // nobody says what its annotations are
		}
		what, err := a.followPod(ctx, p, l)
		if err != nil {
			errs = append(errs, fmt.Errorf("pod %s: %w", p, err))
		}
		if len(what) > 0 {
			changes = append(changes, Change{p, what})
		}
	}
	return changes, errors.Join(errs...)
}

func (a *Adopter) followPod(ctx context.Context, p pods.Pod, l nodeState) (what []string, err error) {
	var errs []error
	for _, at := range attachmentsOf(p, l.confs) {
		attachment, ok := findAttachment(l.attachments[p.ID], at)
		if !ok {
			continue
		}
		call, sb := a.call(p, at)
		differ, err := call.Differences(attachment)
		if err != nil || len(differ) == 0 {
			errs = append(errs, err)
			continue
		}
		if err := call.Update(ctx, sb, attachment); err != nil {
			errs = append(errs, err)
			continue
		}
		what = append(what, differ...)
		errs = append(errs, a.takeBack(ctx, p, call.Node, sb))
	}
	return what, errors.Join(errs...)
}

func findAttachment(own []endpoint.Attachment, at configuredAttachment) (r endpoint.Attachment, ok bool) {
	i := slices.IndexFunc(own, func(r endpoint.Attachment) bool { return r.OfNetwork(at.Network) && r.IfName == at.IfName })
	if i < 0 {
		return r, false
	}
	return own[i], true
}

// FollowSettings sets what can change at any time of a state directory, where all entries that name it agree. It tells what it
// has changed, each in words.
func (a *Adopter) FollowSettings(ctx context.Context) (what []string, err error) {
	confs, err := a.Confs()
	errs := []error{err}
	for dir, settings := range agreedSettings(confs) {
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

// agreedSettings are the settings of each state directory about which its entries do not differ.
func agreedSettings(confs []*cniconf.Conf) map[string]datapath.Settings {
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
