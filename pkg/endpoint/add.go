// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"golang.org/x/sys/unix"
)

// CheckNetNS checks that path can be the network namespace of a container. It has no side effect. It returns
// ErrNetNS if the path does not exist, is no network namespace, or is the namespace of the caller, which for
// a CNI plugin is the namespace of the host.
func CheckNetNS(path string) error {
	own, err := netns.SameAsOwn(path)
	if own {
		return fmt.Errorf("%w: %q is that of the host (containers with host networking are not passed to CNI "+
			"plugins)",
			ErrNetNS, path)
	}
	return explainNetNS(err)
}

// explainNetNS turns errors that show a wrong path into ErrNetNS. It returns errors of examining a good path
// as they are.
func explainNetNS(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNetNS) {
		return fmt.Errorf("%w: %w", ErrNetNS, err)
	}
	return err
}

// Add accelerates a sandbox. It loads the programs if they are not loaded, attaches the container's cgroup
// and registers the network namespace as an endpoint. It is idempotent. If the container is in several
// networks, its policy is the intersection of their policies, see datapath.Narrowest.
//
// After an error the sandbox is not accelerated, or is as an earlier Add of the same attachment left it. Add
// undoes its own steps, except those for the node: loaded programs and a mount of cgroup2 stay.
func (n *Node) Add(ctx context.Context, sb Sandbox, want Want) (Outcome, error) {
	attachment, err := newAttachment(sb)
	if err != nil {
		return Outcome{}, err
	}
	mount, err := n.ensureMount()
	if err != nil {
		return Outcome{}, err
	}
	n = n.withMount(mount) // look for cgroup2 once in each call
	found, dir, err := n.findCgroup(mount, sb, want)
	if err != nil {
		return Outcome{}, err
	}
	defer dir.Close()
	attachment.CgroupID, attachment.CgroupSource = found.ID, string(found.Source)
	if sb.HostNetwork {
		if found.Root {
			return Outcome{}, fmt.Errorf("%w: the cgroup of the pod is not known", errHostCgroup)
		}
		attachment.NetNSCookie = datapath.HostKey(found.ID)
	}
	want.Policy.Accelerate = true
	attachment.Policy = &want.Policy

	s, err := n.beginOrLoad(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer s.end()
	out := Outcome{Cgroup: found, NetNSCookie: attachment.NetNSCookie, Loaded: s.loadedNow}
	if err := s.checkHazards(want.AcceptHazards); err != nil {
		return Outcome{}, err
	}
	if out.Disabled, err = s.applySettings(); err != nil {
		return Outcome{}, err
	}
	err = s.register(sb.key(), attachment, dir)
	// The map may be full of attachments of containers that are gone.
	if errors.Is(err, unix.E2BIG) && !errors.Is(err, datapath.ErrTooManyPrograms) {
		if out.Reaped = s.reapSome(sb.key(), reapTimeWhenFull); len(out.Reaped) > 0 {
			err = s.register(sb.key(), attachment, dir)
		}
	}
	if err != nil {
		return Outcome{}, err
	}
	out.Reaped = append(out.Reaped, s.reapSome(sb.key(), reapTime)...)
	out.OptedOut = s.optedOut(attachment.NetNSCookie)
	if by, off := s.switchOf(attachment.NetNSCookie); off {
		out.SwitchedOff = by.String()
	}
	return out, nil
}

// newAttachment identifies the network namespace of a sandbox and fills in what is recorded about it.
func newAttachment(sb Sandbox) (datapath.Attachment, error) {
	if sb.HostNetwork {
		return newHostAttachment(sb)
	}
	if err := CheckNetNS(sb.NetNSPath); err != nil {
		return datapath.Attachment{}, err
	}
	id, err := netns.Identify(sb.NetNSPath)
	if err != nil {
		return datapath.Attachment{}, explainNetNS(err)
	}
	mountNS, err := netns.MountNS()
	if err != nil {
		return datapath.Attachment{}, err
	}
	return datapath.Attachment{
		Network: sb.Network, ContainerID: sb.ContainerID, IfName: sb.IfName,
		PodNamespace: sb.PodNamespace, PodName: sb.PodName,
		NetNSCookie: id.Cookie, NetNSDev: id.Dev, NetNSInode: id.Inode, NetNSPath: sb.NetNSPath, MountNS: mountNS,
	}, nil
}

var errHostCgroup = errors.New("a pod with hostNetwork can only be identified by its cgroup")

// newHostAttachment is newAttachment for a pod with hostNetwork. Its endpoint is keyed by its cgroup, which
// the caller fills in.
func newHostAttachment(sb Sandbox) (datapath.Attachment, error) {
	id, err := netns.OwnID()
	if err != nil {
		return datapath.Attachment{}, err
	}
	return datapath.Attachment{
		Network: sb.Network, ContainerID: sb.ContainerID, IfName: sb.IfName,
		PodNamespace: sb.PodNamespace, PodName: sb.PodName, HostNetNSCookie: id.Cookie,
	}, nil
}

// findCgroup returns the cgroup to attach to and its open directory, so that the programs are attached to the
// cgroup that was found. The caller closes the directory.
func (n *Node) findCgroup(mount cgroup.Mount, sb Sandbox, want Want) (cgroup.Found, *os.File, error) {
	if want.CgroupID != 0 {
		if dir, err := n.openCgroupID(want.CgroupID); err == nil {
			return cgroup.Found{Path: dir.Name(), ID: want.CgroupID, Source: cgroup.Source(want.CgroupSource)}, dir,
				nil
		}
	}
	found, err := cgroup.Find(mount, cgroup.Request{
		Explicit: want.CgroupPath, Runtime: want.RuntimeCgroupPath, PodUID: sb.PodUID, NetNS: sb.NetNSPath,
		ContainerID: sb.ContainerID,
	})
	if err != nil && want.CgroupPath != "" {
		err = &ConfigError{err}
	}
	if err != nil {
		return cgroup.Found{}, nil, err
	}
	// Use the ID of the open directory: the cgroup may have been removed and created again since Find looked.
	dir, id, err := cgroup.Open(found.Path)
	found.ID = id
	return found, dir, err
}

// ensureMount finds cgroup2. If the host has not mounted it, ensureMount mounts it at privateMount.
func (n *Node) ensureMount() (cgroup.Mount, error) {
	mount, err := n.findMount()
	if !errors.Is(err, cgroup.ErrNoCgroup2) {
		return mount, err
	}
	if err := n.step("mount cgroup2"); err != nil {
		return cgroup.Mount{}, err
	}
	return cgroup.MountPrivate(privateMount)
}

// applySettings applies those settings of the configuration that can change at any time, if others are in
// force. It reports whether the kill switch is on.
func (s *session) applySettings() (disabled bool, err error) {
	now, err := s.d.Config()
	if err != nil {
		return false, err
	}
	want := s.Settings
	if now.MaxSockets != want.MaxSockets {
		s.log().Warn("maxSockets differs from what is loaded, which stays in force until the agent, or "+
			"sockmapctl upgrade, changes it",
			"configured", want.MaxSockets, "loaded", now.MaxSockets)
	}
	if err := s.warnOfGuards(); err != nil {
		return false, err
	}
	if now.Live() == want.Live() {
		return now.Disabled, nil
	}
	s.log().Warn("node-wide settings are changed to those of this configuration",
		differenceArgs(now.Live(), want.Live())...)
	return now.Disabled, s.setLive(want.Live())
}

func (s *session) setLive(want datapath.Live) error {
	if err := s.step("settings"); err != nil {
		return err
	}
	return s.d.SetLive(want)
}

// ApplySettings applies those settings of n.Settings that can change at any time. It returns one text for
// each change, and datapath.ErrNotLoaded if nothing is loaded.
func (n *Node) ApplySettings(ctx context.Context) (what []string, err error) {
	// Usually nothing has to change, and then no lock is needed.
	config, err := n.config()
	if err != nil || config.Live() == n.Settings.Live() {
		return nil, err
	}
	s, err := n.beginLoaded(ctx)
	if err != nil {
		return nil, err
	}
	defer s.end()
	now, err := s.d.Config()
	if err != nil || now.Live() == s.Settings.Live() {
		return nil, err
	}
	for _, d := range liveDifferences(now.Live(), s.Settings.Live()) {
		what = append(what, fmt.Sprintf("%s: %v, now %v", d.key, d.was, d.now))
	}
	return what, s.setLive(s.Settings.Live())
}

// difference is one setting that differs.
type difference struct {
	key      string
	was, now any
}

// liveDifferences lists the settings that differ.
func liveDifferences(was, now datapath.Live) []difference {
	all := []difference{
		{"maxBacklogBytes", was.MaxBacklogBytes, now.MaxBacklogBytes},
		{"maxBacklogMessages", was.MaxBacklogMessages, now.MaxBacklogMessages},
		{"natRefreshSeconds", was.NATRefreshSeconds, now.NATRefreshSeconds},
		{"coexist", was.Coexist, now.Coexist},
		{"conntrackHelpers", was.Helpers, now.Helpers},
	}
	return slices.DeleteFunc(all, func(d difference) bool { return d.was == d.now })
}

// differenceArgs returns the differences as arguments for the log.
func differenceArgs(was, now datapath.Live) (args []any) {
	for _, d := range liveDifferences(was, now) {
		args = append(args, slog.Group(d.key, "was", d.was, "now", d.now))
	}
	return args
}

// warnOfGuards logs each guard whose configuration differs from what was loaded. A guard that the kernel
// refused counts as loaded.
func (s *session) warnOfGuards() error {
	states, err := s.d.GuardStates()
	if err != nil {
		return err
	}
	for _, g := range states {
		if off := slices.Contains(s.Settings.WithoutGuards, g.Name); off != g.SwitchedOff() {
			s.log().Warn("the configuration of a guard differs from what is loaded, which stays in force until the "+
				"agent, or sockmapctl upgrade, changes it",
				"guard", g.Name, "configured", !off, "loaded", !g.SwitchedOff())
		}
	}
	return nil
}

// checkHazards returns a HazardError if the probes found severe hazards that are neither guarded nor
// accepted.
func (s *session) checkHazards(accepted []string) error {
	now, err := s.d.Config()
	if err != nil {
		return err
	}
	return hazardError(now, accepted)
}
