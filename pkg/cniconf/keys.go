// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"fmt"
	"strconv"
)

// key is one member of the configuration object. The documentation is tested against def and allowed.
type key struct {
	name    string
	def     string // the default, as JSON
	allowed string // completes "VALUE is not ..."
	set     func(v value)
}

const (
	allowedBoolean = "the boolean true or false"
	allowedText    = "a string"
)

// Bounds of the numbers, inclusive.
const (
	minSockets, maxSockets                 = 1, 4 << 20
	minBacklogBytes, maxBacklogBytes       = 4096, 1 << 30
	minBacklogMessages, maxBacklogMessages = 1, 1 << 20
	minNATRefresh, maxNATRefresh           = 0, 3600
)

// keys is the plugin's own part of the configuration, in the order in which wrong values are reported.
func keys() []key {
	return []key{
		{"enabled", "true", allowedBoolean, func(v value) { v.boolean(&v.conf.Enabled) }},
		{"required", "false", allowedBoolean, func(v value) { v.boolean(&v.conf.Required) }},
		{
			"cgroupPath", `""`, `"" or an absolute path other than "/", without ".."`,
			func(v value) { v.path(&v.conf.CgroupPath, true, notRoot) },
		},
		{
			"bpffsPath", strconv.Quote(DefaultBPFFSPath),
			`an absolute path other than "/" with no dot in it (bpffs refuses names with dots)`,
			func(v value) { v.path(&v.conf.BPFFSPath, false, noDots) },
		},
		number("maxSockets", DefaultMaxSockets, minSockets, maxSockets,
			func(c *Conf) *uint32 { return &c.MaxSockets }),
		number("maxBacklogBytes", DefaultMaxBacklogBytes, minBacklogBytes, maxBacklogBytes,
			func(c *Conf) *uint32 { return &c.MaxBacklogBytes }),
		number("maxBacklogMessages", DefaultMaxBacklogMessages, minBacklogMessages, maxBacklogMessages,
			func(c *Conf) *uint32 { return &c.MaxBacklogMessages }),
		number("natRefreshSeconds", DefaultNATRefreshSeconds, minNATRefresh, maxNATRefresh,
			func(c *Conf) *uint32 { return &c.NATRefreshSeconds }),
		{"coexist", `"yield"`, "one of yield, share", value.coexist},
		{"conntrackHelpers", `"avoid"`, "one of avoid, ignore", value.helpers},
		{"peers", `"node"`, "one of node, namespace, pod", value.peers},
		{"ports", "{}", "an object with the lists include and exclude", value.ports},
		{"acceptHazards", "[]", "a list of names of hazards", value.hazards},
		{"guards", `["splice", "observe", "blocking", "options", "fionread"]`, "a list of names of guards", value.guards},
		{"logLevel", `"info"`, "one of debug, info, warn, error", value.logLevel},
		{
			"logFile", `""`, `"" or an absolute path of a file, without ".."`,
			func(v value) { v.path(&v.conf.LogFile, true, notRoot) },
		},
	}
}

// KeyNames are the keys of an entry that are the plugin's own, in the order of the documentation.
func KeyNames() (names []string) {
	for _, k := range keys() {
		names = append(names, k.name)
	}
	return names
}

// protocolKeys are those that the CNI specification defines and that this plugin reads.
func protocolKeys() []key {
	return []key{
		{name: "cniVersion", allowed: allowedText, set: func(v value) { v.text(&v.conf.CNIVersion) }},
		{name: "name", allowed: allowedText, set: func(v value) { v.text(&v.conf.Name) }},
		{name: "type", allowed: allowedText, set: func(v value) { v.text(&v.conf.Type) }},
		{name: "prevResult", allowed: "an object", set: value.prevResult},
		{name: "capabilities", set: value.capabilities},
		{name: "runtimeConfig", set: value.runtimeConfig},
	}
}

func number(name string, def, low, high uint32, field func(*Conf) *uint32) key {
	return key{
		name:    name,
		def:     strconv.FormatUint(uint64(def), 10),
		allowed: fmt.Sprintf("a whole number from %d to %d", low, high),
		set:     func(v value) { v.number(field(v.conf), low, high) },
	}
}
