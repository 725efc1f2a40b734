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

// Change is a difference between the configuration of a running pod and what was in force for it.
type Change struct {
	Pod  pods.Pod
	What []string // each in words, such as "peers: node, now namespace"
}

// Follow applies the current configuration to pods that wanted selects and that have an attachment. Live
// connections follow within a second. It continues after errors of single pods, and joins them.
func (a *Adopter) Follow(ctx context.Context, wanted func(pods.Pod) bool) ([]Change, error) {
	l, err := a.read(ctx)
	var changes []Change
	errs := []error{err}
	for _, p := range l.pods {
		if p.From == pods.FromProcesses || p.Unsure || !wanted(p) {
			continue // the current annotations are unknown
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
	i := slices.IndexFunc(own, func(r endpoint.Attachment) bool {
		return r.OfNetwork(at.Network) && r.IfName == at.IfName
	})
	if i < 0 {
		return r, false
	}
	return own[i], true
}

// FollowSettings applies the settings of the node that can change at any time, for each state directory whose
// entries all agree. It returns one text for each change.
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

// agreedSettings returns the settings of each state directory whose entries all agree.
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
