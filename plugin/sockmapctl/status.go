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
	Loaded  bool   `json:"loaded" doc:"the programs are pinned and usable"`
	Version string `json:"version" doc:"of this sockmapctl"`
	Dir     string `json:"bpffsPath" doc:"directory of the pinned state"`
	Problem string `json:"problem" doc:"why it is not loaded, or is unusable; empty when loaded"`

	Accelerating bool       `json:"accelerating" doc:"containers are accelerated here, or one that is added now would be"`
	Parts        []partView `json:"parts" doc:"what that takes, for a container that accepts what the plugin's entry does"`

	Checks   []checkView `json:"checks" doc:"what loading needs; empty when loaded"`
	Next     []string    `json:"next" doc:"what to do about what is off"`
	Pods     podsView    `json:"pods" doc:"of this node that the container runtime or libcni's cache knows"`
	Node     *nodeView   `json:"node" doc:"null when not loaded"`
	exitWith error       // when not loaded

	unloading bool // an unload has not ended: that is why Node is not enabled
}

type nodeView struct {
	Enabled       bool            `json:"enabled" doc:"false after sockmapctl disable"`
	LoadedVersion string          `json:"loadedVersion" doc:"of the programs, as of the last load or upgrade"`
	LoadedAt      time.Time       `json:"loadedAt" doc:"time of loading; an upgrade within one ABI does not change it"`
	Kernel        string          `json:"kernel" doc:"release of the running kernel"`
	Settings      settingsView    `json:"settings" doc:"in force now"`
	Hazards       hazardsView     `json:"hazards" doc:"what this kernel was found to do wrong, see doctor"`
	Guards        []guardView     `json:"guards" doc:"what cures it, as far as it was loaded"`
	Switches      []switchView    `json:"switchedOff" doc:"by sockmapctl disable with pods, namespaces or ports"`
	Helpers       helpersView     `json:"conntrackHelpers" doc:"that read or rewrite payload on this node, and so keep their ports on TCP"`
	Attachments   countsView      `json:"attachments" doc:"CNI attachments"`
	Cgroups       []cgroupView    `json:"cgroups" doc:"cgroups with a link"`
	Others        []otherView     `json:"others" doc:"programs of the same types, and maps of sockets, that are not sockmap's; null without CAP_SYS_ADMIN"`
	Neighbours    []neighbourView `json:"neighbours" doc:"foreign sock_ops programs that run for sockets of containers; null without CAP_SYS_ADMIN"`
	Coexist       string          `json:"coexist" doc:"yield or share, see CONFIGURATION.md"`
	CallbacksLost uint64          `json:"callbacksLost" doc:"connections whose callbacks another sock_ops program has switched off"`
	Draining      []drainView     `json:"draining" doc:"state of older ABIs, until its live flows end"`
	Now           nowView         `json:"now" doc:"live sockets"`
	Ever          everView        `json:"ever" doc:"since loading, live sockets included"`
}

type switchView struct {
	Kind string    `json:"kind" doc:"pod, namespace or port"`
	Name string    `json:"name" doc:"as in sockmapctl enable"`
	At   time.Time `json:"at" doc:"when it was switched off"`
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
	Accelerated int       `json:"accelerated" doc:"CNI attachments that take part"`
	Declined    int       `json:"declined" doc:"... and that do not"`
	Dead        int       `json:"dead" doc:"... whose container is gone"`
	Reasons     []whyView `json:"reasons" doc:"why not, most frequent first"`
}

type whyView struct {
	Reason string `json:"reason" doc:"as METRICS.md names it"`
	Words  string `json:"words" doc:"as recorded"`
	Count  uint64 `json:"count" doc:"how many"`
}

type cgroupView struct {
	ID          uint64 `json:"id" doc:"as in detach --id"`
	Path        string `json:"path" doc:"empty when the cgroup is gone"`
	Manual      bool   `json:"manual" doc:"attached with sockmapctl attach: for every network namespace"`
	Alive       bool   `json:"alive" doc:"false: the cgroup is gone and only the pin is left"`
	Attachments int    `json:"attachments" doc:"CNI attachments that share the link"`
}

type drainView struct {
	ABI     uint32 `json:"abi" doc:"of the maps"`
	Sockets int    `json:"sockets" doc:"that are left"`
}

type otherView struct {
	Name  string `json:"name" doc:"as its owner has called it; the kernel keeps 15 characters"`
	Type  string `json:"type" doc:"SockOps, SkMsg or SkSKB of a program, SockMap or SockHash of a map"`
	Count int    `json:"count" doc:"how many of them there are"`
}

type nowView struct {
	Sockets            int    `json:"sockets" doc:"in the sockhash"`
	Flows              int    `json:"flows" doc:"of which both ends are there"`
	Waiting            int    `json:"waiting" doc:"sockets whose peer has not joined"`
	Pending            int    `json:"pending" doc:"sockets that have sent nothing yet"`
	Redirecting        int    `json:"redirecting" doc:"sockets whose last message was redirected"`
	OnTCP              int    `json:"onTCP" doc:"sockets whose last message used TCP"`
	Left               int    `json:"left" doc:"sockets that are out of the sockhash for good, plain TCP"`
	RedirectedBytes    uint64 `json:"redirectedBytes" doc:"sent from socket to socket by live sockets"`
	RedirectedMessages uint64 `json:"redirectedMessages" doc:"calls of send that made them"`
	TCPBytes           uint64 `json:"tcpBytes" doc:"sent over TCP by live sockets"`
	TCPMessages        uint64 `json:"tcpMessages" doc:"calls of send that made them"`
}

type everView struct {
	RedirectedBytes    uint64       `json:"redirectedBytes" doc:"sent from socket to socket"`
	RedirectedMessages uint64       `json:"redirectedMessages" doc:"calls of send that made them"`
	TCPBytes           uint64       `json:"tcpBytes" doc:"sent over TCP by sockets of the sockhash"`
	TCPMessages        uint64       `json:"tcpMessages" doc:"calls of send that made them"`
	Results            []resultView `json:"results" doc:"how often each result occurred; those that never did are left out"`
	Fallbacks          []live.Count `json:"fallbacks" doc:"how often sockets went to TCP, most frequent first"`
}

type resultView struct {
	Result  string `json:"result" doc:"see METRICS.md"`
	Active  uint64 `json:"active" doc:"counted at ends that called connect"`
	Passive uint64 `json:"passive" doc:"counted at ends that came out of accept"`
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
			err = toldError{s.exitWith}
		}
		return err
	})
}
