// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/spf13/cobra"
)

// statusView has everything that the screen of status shows. Fields that need loaded programs are null if
// none are loaded.
type statusView struct {
	Loaded  bool   `json:"loaded" doc:"the programs are loaded and usable"`
	Version string `json:"version" doc:"version of this sockmapctl"`
	Dir     string `json:"bpffsPath" doc:"state directory"`
	Problem string `json:"problem" doc:"why the state is not loaded or not usable; empty when loaded"`

	Accelerating bool       `json:"accelerating" doc:"no part prevents acceleration; open hazards do not count while a container or a cgroup is accelerated"`
	Parts        []partView `json:"parts" doc:"whether programs, kill switch and hazards allow acceleration, for a container that accepts the hazards that its entry accepts"`

	Checks   []checkView `json:"checks" doc:"requirements for loading; empty when loaded"`
	Next     []string    `json:"next" doc:"recommended commands for the problems found, the most urgent first"`
	Pods     podsView    `json:"pods" doc:"counts of the pods of this node that the container runtime or the cache of libcni knows"`
	Node     *nodeView   `json:"node" doc:"null when nothing is loaded"`
	exitWith error       // when not loaded

	unloading bool // an unload has not ended: that is why Node is not enabled
}

type nodeView struct {
	Enabled       bool            `json:"enabled" doc:"the kill switch is off; false after sockmapctl disable"`
	LoadedVersion string          `json:"loadedVersion" doc:"version of the programs at the last load or upgrade"`
	LoadedAt      time.Time       `json:"loadedAt" doc:"time of the load; an upgrade within one ABI does not change it"`
	Kernel        string          `json:"kernel" doc:"release of the running kernel"`
	Settings      settingsView    `json:"settings" doc:"settings in force"`
	Hazards       hazardsView     `json:"hazards" doc:"hazards that the probes found on this kernel, see sockmapctl doctor"`
	Guards        []guardView     `json:"guards" doc:"all known guards, and whether each runs"`
	Switches      []switchView    `json:"switchedOff" doc:"pods, namespaces and ports that sockmapctl disable switched off"`
	Helpers       helpersView     `json:"conntrackHelpers" doc:"conntrack helpers of this node, whose ports stay on TCP"`
	Attachments   countsView      `json:"attachments" doc:"CNI attachments"`
	Cgroups       []cgroupView    `json:"cgroups" doc:"cgroups with a link"`
	Others        []otherView     `json:"others" doc:"foreign programs of the types sock_ops and sk_msg, and foreign sockmaps; null without CAP_SYS_ADMIN"`
	Neighbours    []neighbourView `json:"neighbours" doc:"foreign sock_ops programs that run for sockets of containers; null without CAP_SYS_ADMIN"`
	Coexist       string          `json:"coexist" doc:"yield or share, see CONFIGURATION.md"`
	CallbacksLost uint64          `json:"callbacksLost" doc:"connections whose callback flags another sock_ops program has cleared"`
	Draining      []drainView     `json:"draining" doc:"older states that serve their live flows until these end"`
	Now           nowView         `json:"now" doc:"live sockets and what they have sent"`
	Ever          everView        `json:"ever" doc:"sums since the load, live sockets included"`
}

type switchView struct {
	Kind string    `json:"kind" doc:"pod, namespace or port"`
	Name string    `json:"name" doc:"as in sockmapctl enable"`
	At   time.Time `json:"at" doc:"time of the switch"`
}

type settingsView struct {
	MaxSockets         uint32 `json:"maxSockets" doc:"entries of the sockhash, see CONFIGURATION.md"`
	MaxBacklogBytes    uint32 `json:"maxBacklogBytes" doc:"see CONFIGURATION.md"`
	MaxBacklogMessages uint32 `json:"maxBacklogMessages" doc:"see CONFIGURATION.md"`
	NATRefreshSeconds  uint32 `json:"natRefreshSeconds" doc:"0: off, see CONFIGURATION.md"`
	Coexist            string `json:"coexist" doc:"yield or share, see CONFIGURATION.md"`
	ConntrackHelpers   string `json:"conntrackHelpers" doc:"avoid or ignore, see CONFIGURATION.md"`
}

type countsView struct {
	Accelerated int       `json:"accelerated" doc:"CNI attachments that are accelerated"`
	OptedOut    int       `json:"optedOut" doc:"CNI attachments that the configuration, an annotation or sockmapctl disable keeps on TCP"`
	Declined    int       `json:"declined" doc:"CNI attachments that could not be accelerated"`
	Dead        int       `json:"dead" doc:"CNI attachments, of any state, whose container is gone"`
	Reasons     []whyView `json:"reasons" doc:"why attachments are not accelerated, most frequent first"`
}

type whyView struct {
	Reason string `json:"reason" doc:"as METRICS.md names it"`
	Words  string `json:"words" doc:"the reason in words"`
	Count  uint64 `json:"count" doc:"how many"`
}

type cgroupView struct {
	ID          uint64 `json:"id" doc:"id of the cgroup, as in sockmapctl detach --id"`
	Path        string `json:"path" doc:"path of the cgroup; empty when the cgroup no longer exists"`
	Manual      bool   `json:"manual" doc:"attached with sockmapctl attach, for every network namespace"`
	Alive       bool   `json:"alive" doc:"the cgroup exists; false: only the pinned link is left"`
	Attachments int    `json:"attachments" doc:"CNI attachments that share the link"`
}

type drainView struct {
	ABI     uint32 `json:"abi" doc:"ABI of the older state"`
	Sockets int    `json:"sockets" doc:"that are left"`
}

type otherView struct {
	Name  string `json:"name" doc:"as its owner has called it; the kernel keeps 15 characters"`
	Type  string `json:"type" doc:"SockOps, SkMsg or SkSKB of a program, SockMap or SockHash of a map"`
	Count int    `json:"count" doc:"how many of them there are"`
}

type nowView struct {
	Sockets            int    `json:"sockets" doc:"in the sockhash"`
	Flows              int    `json:"flows" doc:"connections with both ends in the sockhash"`
	Waiting            int    `json:"waiting" doc:"sockets whose peer has not joined"`
	Pending            int    `json:"pending" doc:"sockets that have sent nothing yet"`
	Redirecting        int    `json:"redirecting" doc:"sockets whose last message was redirected"`
	OnTCP              int    `json:"onTCP" doc:"sockets whose last message used TCP"`
	Left               int    `json:"left" doc:"sockets that have left the sockhash and are plain TCP until they are closed"`
	RedirectedBytes    uint64 `json:"redirectedBytes" doc:"bytes that live sockets sent and the programs redirected"`
	RedirectedMessages uint64 `json:"redirectedMessages" doc:"calls of send for these bytes"`
	TCPBytes           uint64 `json:"tcpBytes" doc:"bytes that live sockets sent over TCP"`
	TCPMessages        uint64 `json:"tcpMessages" doc:"calls of send for these bytes"`
}

type everView struct {
	RedirectedBytes    uint64       `json:"redirectedBytes" doc:"bytes that the programs redirected"`
	RedirectedMessages uint64       `json:"redirectedMessages" doc:"calls of send for these bytes"`
	TCPBytes           uint64       `json:"tcpBytes" doc:"bytes that sockets of the sockhash sent over TCP"`
	TCPMessages        uint64       `json:"tcpMessages" doc:"calls of send for these bytes"`
	Results            []resultView `json:"results" doc:"how often each result occurred at each role; results that did not occur are omitted"`
	Fallbacks          []live.Count `json:"fallbacks" doc:"how often flows fell back to TCP for each reason, most frequent first"`
}

type resultView struct {
	Result  string `json:"result" doc:"see METRICS.md"`
	Active  uint64 `json:"active" doc:"count at active ends (which called connect)"`
	Passive uint64 `json:"passive" doc:"count at passive ends (which accept returned)"`
}

func statusCommand(a *app) *cobra.Command {
	cmd := a.withOutput(&cobra.Command{
		Use:   "status",
		Short: "Show whether sockmap works, and what to do if it does not",
		Long: `Shows whether sockmap is loaded and on, what it does now, what it has done since
it was loaded, and what to do about problems.

If sockmap is not loaded, status checks what loading needs. It changes nothing.
The exit code is 3 if sockmap is not loaded, and 4 if the pinned state is
damaged or of another version. It is 5 if all is loaded and nothing can be
accelerated: the kernel has open severe hazards that no entry in a network
configuration accepts, or the kill switch is on.`,
		Example: `  sockmapctl status
  sockmapctl status -o json | jq .node.now.flows`,
	}, formatsOfObject...)
	var f podFlags
	f.flags(a, cmd)
	return runs(cmd, func(cmd *cobra.Command) error {
		s, err := a.status(cmd, &f)
		if err != nil {
			return fmt.Errorf("read status: %w", err)
		}
		if a.isDocument() {
			err = a.printDocument("Status", s)
		} else {
			err = a.printStatus(s)
		}
		if err == nil && s.exitWith != nil {
			err = printedError{s.exitWith}
		}
		return err
	})
}
