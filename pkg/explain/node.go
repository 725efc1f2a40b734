// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

// nodeQuestions are the conditions that must hold before a connection is made.
var nodeQuestions = []*question{
	{
		name: "loaded", ask: "are the programs loaded?", means: "sockmap is not loaded on this node",
		change: "sockmapctl load, or the first container that is added with sockmap in its conflist",
		now: func(f *Facts) finding {
			if f.Problem != "" {
				return decided("%s", f.Problem)
			}
			return passed("by version %s, %s", f.Config.Version, f.Config.LoadedAt.Format(time.DateTime))
		},
	},
	{
		name: "switch", ask: "is the kill switch off?", means: "the kill switch is on",
		change: "sockmapctl enable; connections that were made meanwhile stay on TCP",
		now:    killSwitch,
	},
	{
		name: "hazards", ask: "are all severe hazards of this kernel guarded or accepted?",
		means: "this kernel has severe hazards that the configuration does not accept",
		change: "the key acceptHazards of its conflist or, for hazards that concern only the pod, its " +
			"annotation, when it is added again; see: sockmapctl doctor",
		now: func(f *Facts) finding { return either(f, f.hazards) },
	},
	{
		name: "registered", ask: "are both network namespaces registered and accelerated?",
		means:  "the network namespace of an end is not registered or not accelerated",
		change: "see: sockmapctl attachments; a container takes part when it is added with sockmap in its conflist",
		now:    func(f *Facts) finding { return either(f, registered) },
	},
	{
		name: "link", ask: "do the cgroups of both ends have their links?",
		means:  "the cgroup of an end has no link, so no program sees its sockets",
		change: "add its container again, or: sockmapctl attach --cgroup PATH",
		now:    func(f *Facts) finding { return either(f, linked) },
	},
}

func killSwitch(f *Facts) finding {
	if f.Config.Disabled {
		return decided("sockmapctl disable has turned it on")
	}
	return passed("")
}

func (f *Facts) hazards(e *End) finding {
	switch {
	case len(f.Severe) == 0:
		return passed("none is open")
	case e.Registered != nil && e.Registered.Accelerate:
		return passed("open: %s; %s was accelerated anyway, so they are accepted", strings.Join(f.Severe, ", "),
			e.Name)
	case e.Why == decline.Hazards:
		return decided("%s: %s", e.Name, e.Declined)
	}
	return passed("open: %s; they are not what keeps %s on TCP", strings.Join(f.Severe, ", "), e.Name)
}

func registered(e *End) finding {
	switch {
	case e.Registered != nil && e.Registered.Accelerate:
		return passed("")
	case e.Registered != nil && e.Why == decline.SwitchedOff:
		found := decided("%s is kept on TCP: %s", e.Name, e.Declined)
		found.change = enableChange
		return found
	case e.Registered != nil:
		found := decided("%s has opted out: %s", e.Name, e.Declined)
		found.change = optInChange
		return found
	case e.Declined != "" && e.Linked != Passed:
		return decided("%s was declined: %s", e.Name, e.Declined)
	case e.Place == PlaceUnknown:
		return unknown("%s is in no network namespace that is known here: another node, the outside, or a "+
			"service address (then name the pod behind it)", e.Name)
	case e.Linked == Passed:
		return passed("%s is not registered, and its cgroup is attached with sockmapctl attach", e.Name)
	case e.Linked == Decided:
		return decided("%s is not registered: the plugin was never called for it", e.Name)
	}
	return unknown("%s is not registered: it takes part only where its cgroup is attached with "+
		"sockmapctl attach", e.Name)
}

func linked(e *End) finding {
	switch e.Linked {
	case Passed:
		return passed("")
	case Decided:
		return decided("%s: %s", e.Name, e.Link)
	}
	return unknown("the cgroup of %s is not known", e.Name)
}
