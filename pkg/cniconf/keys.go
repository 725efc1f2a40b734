// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// Defaults of the keys that have one.
const (
	DefaultBPFFSPath                 = "/sys/fs/bpf/sockmap"
	DefaultMaxSockets         uint32 = 65536
	DefaultMaxBacklogBytes    uint32 = 8 << 20
	DefaultMaxBacklogMessages uint32 = 4096
	DefaultNATRefreshSeconds  uint32 = 60
)

// Peers limits the endpoints with which an endpoint may have redirected connections.
type Peers string

// The values of the key peers.
const (
	PeersNode      Peers = "node"      // any endpoint of this node
	PeersNamespace Peers = "namespace" // endpoints with the same K8S_POD_NAMESPACE
	PeersPod       Peers = "pod"       // this sandbox only
)

// Coexist says what happens where another program above a cgroup owns a sockhash.
type Coexist string

// The values of the key coexist.
const (
	CoexistYield Coexist = "yield" // the containers in that cgroup stay on TCP
	CoexistShare Coexist = "share" // they are accelerated anyway
)

// Helpers says what happens to ports whose payload a conntrack helper of the node rewrites.
type Helpers string

// The values of the key conntrackHelpers.
const (
	HelpersAvoid  Helpers = "avoid"  // they stay on TCP
	HelpersIgnore Helpers = "ignore" // they are accelerated like others
)

// Conf is one call's configuration, checked and with defaults filled in.
type Conf struct {
	CNIVersion, Name, Type string // as the runtime put them; their presence is not checked here

	Enabled  bool // before annotations, see Accelerate
	Required bool

	// CgroupPath is a directory below the cgroup2 mount ("/kubepods/pod1") or an absolute path of the file
	// system, cleaned; "" when the cgroup is to be discovered.
	CgroupPath string
	BPFFSPath  string // absolute, cleaned, no component with a dot

	MaxSockets         uint32 // entries of the sockhash
	MaxBacklogBytes    uint32 // per direction of a connection
	MaxBacklogMessages uint32 // per direction of a connection
	NATRefreshSeconds  uint32 // 0: off

	Coexist          Coexist
	ConntrackHelpers Helpers

	Peers         Peers
	Ports         Ports
	AcceptHazards []string // names of hazard.Table or hazard.All, as written; see HazardsAccepted
	Guards        []string // names of hazard.Guards that may run, as written; see GuardsOff

	LogLevel slog.Level
	LogFile  string // absolute, or "" for standard error

	// RuntimeCgroupPath is runtimeConfig.cgroupPath, unchanged and unchecked: runtimes disagree on its form, and
	// its meaning depends on the cgroup hierarchy.
	RuntimeCgroupPath string
	Annotations       map[string]string // of the pod, when the runtime passes them; nil otherwise

	// PrevResult holds the bytes of standard input unchanged, because decoding a result into a struct drops
	// unknown keys and rounds big numbers. nil when absent or null.
	PrevResult json.RawMessage

	// ValidAttachments lists what GC must keep. nil means that the runtime passed no list. An empty list means
	// that nothing of this network is alive.
	ValidAttachments *[]Attachment

	Warnings []string // for the log: what was ignored, and why
}

// key is one member of the configuration object. The row of docs/CONFIGURATION.md and the property in the
// chart's values.schema.json are written from it: go test ./pkg/cniconf -update
type key struct {
	name    string
	kind    string // of values, for the documentation
	def     string // the default, as JSON
	allowed string // completes "VALUE is not ..."
	schema  string // JSON schema of values; empty: the chart has no such property
	set     func(v value)
	note    notes
}

// notes are added to the documentation, in parentheses.
type notes struct{ def, allowed string }

const allowedText = "a string"

// Bounds of the numbers, inclusive.
const (
	minSockets, maxSockets                 = 1, 4 << 20
	minBacklogBytes, maxBacklogBytes       = 4096, 1 << 30
	minBacklogMessages, maxBacklogMessages = 1, 1 << 20
	minNATRefresh, maxNATRefresh           = 0, 3600
)

const (
	schemaOptionalPath = `{ "anyOf": [{ "const": "" }, { "$ref": "#/definitions/absolute" }] }`
	schemaPorts        = `{ "type": "array", "items": { "$ref": "#/definitions/portRange" } }`
)

// keys is the plugin's own part of the configuration, in the order of the documentation, in which wrong
// values are reported.
func keys() []key {
	return []key{
		boolean("enabled", true, func(c *Conf) *bool { return &c.Enabled }),
		boolean("required", false, func(c *Conf) *bool { return &c.Required }),
		{
			name: "cgroupPath", kind: "string", def: `""`,
			allowed: `"" or an absolute path other than "/", without ".."`,
			schema:  schemaOptionalPath,
			set:     func(v value) { v.path(&v.conf.CgroupPath, true, notRoot) },
		},
		{
			name: "bpffsPath", kind: "string", def: strconv.Quote(DefaultBPFFSPath),
			allowed: `an absolute path other than "/" with no dot in it (bpffs refuses names with dots)`,
			schema:  `{ "type": "string", "pattern": "^(/[^/.\\s]+){2,}$" }`,
			set:     func(v value) { v.path(&v.conf.BPFFSPath, false, noDots) },
		},
		number("maxSockets", DefaultMaxSockets, minSockets, maxSockets,
			func(c *Conf) *uint32 { return &c.MaxSockets }, notes{}),
		number("maxBacklogBytes", DefaultMaxBacklogBytes, minBacklogBytes, maxBacklogBytes,
			func(c *Conf) *uint32 { return &c.MaxBacklogBytes }, notes{"8 MiB", "1 GiB"}),
		number("maxBacklogMessages", DefaultMaxBacklogMessages, minBacklogMessages, maxBacklogMessages,
			func(c *Conf) *uint32 { return &c.MaxBacklogMessages }, notes{}),
		number("natRefreshSeconds", DefaultNATRefreshSeconds, minNATRefresh, maxNATRefresh,
			func(c *Conf) *uint32 { return &c.NATRefreshSeconds }, notes{"", "0: off"}),
		choice("coexist", func(c *Conf) *Coexist { return &c.Coexist }, CoexistYield, CoexistShare),
		choice("conntrackHelpers", func(c *Conf) *Helpers { return &c.ConntrackHelpers }, HelpersAvoid,
			HelpersIgnore),
		choice("peers", func(c *Conf) *Peers { return &c.Peers }, PeersNode, PeersNamespace, PeersPod),
		{
			name: "ports", kind: "object", def: "{}", allowed: "an object with the lists include and exclude",
			schema: `{ "type": "object", "additionalProperties": false, "properties": { "include": ` + schemaPorts +
				`, "exclude": ` + schemaPorts + ` } }`,
			set: value.ports,
		},
		{
			name: "acceptHazards", kind: "list of strings", def: "[]", allowed: "a list of names of hazards",
			set: value.hazards, // the chart has it as cni.acceptHazards
		},
		{
			name: "guards", kind: "list of strings", def: jsonList(hazard.GuardNames()),
			allowed: "a list of names of guards",
			schema:  `{ "type": "array", "items": { "enum": ` + jsonList(hazard.GuardNames()) + ` } }`,
			set:     value.guards,
		},
		{
			name: "logLevel", kind: "string", def: `"info"`, allowed: "one of debug, info, warn, error",
			schema: `{ "enum": ["debug", "info", "warn", "error"] }`,
			set:    value.logLevel,
		},
		{
			name: "logFile", kind: "string", def: `""`, allowed: `"" or an absolute path of a file, without ".."`,
			schema: schemaOptionalPath,
			set:    func(v value) { v.path(&v.conf.LogFile, true, notRoot) },
		},
	}
}

// defaults returns a Conf with the default of each key.
func defaults() *Conf {
	p := &parser{conf: &Conf{}}
	for _, k := range keys() {
		k.set(value{parser: p, key: k.name, allowed: k.allowed, raw: json.RawMessage(k.def)})
	}
	return p.conf
}

// KeyNames lists the plugin's own keys of an entry, in the order of the documentation.
func KeyNames() (names []string) {
	for _, k := range keys() {
		names = append(names, k.name)
	}
	return names
}

// protocolKeys are keys of the CNI specification that this plugin reads.
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

func boolean(name string, def bool, field func(*Conf) *bool) key {
	return key{
		name: name, kind: "boolean", def: strconv.FormatBool(def), allowed: "the boolean true or false",
		schema: `{ "type": "boolean" }`,
		set:    func(v value) { v.boolean(field(v.conf)) },
	}
}

func number(name string, def, low, high uint32, field func(*Conf) *uint32, note notes) key {
	return key{
		name: name, kind: "number", def: strconv.FormatUint(uint64(def), 10), note: note,
		allowed: fmt.Sprintf("a whole number from %d to %d", low, high),
		schema:  fmt.Sprintf(`{ "type": "integer", "minimum": %d, "maximum": %d }`, low, high),
		set:     func(v value) { v.number(field(v.conf), low, high) },
	}
}

// choice is a key with one of several words; the first is the default.
func choice[T ~string](name string, field func(*Conf) *T, allowed ...T) key {
	words := make([]string, len(allowed))
	for i, word := range allowed {
		words[i] = string(word)
	}
	return key{
		name: name, kind: "string", def: strconv.Quote(words[0]), allowed: "one of " + strings.Join(words, ", "),
		schema: `{ "enum": ` + jsonList(words) + ` }`,
		set:    func(v value) { oneOf(v, field(v.conf), allowed...) },
	}
}

// jsonList writes a list as people do: a space behind each comma.
func jsonList(words []string) string {
	text, _ := json.Marshal(words) // of strings: it cannot fail
	return strings.ReplaceAll(string(text), ",", ", ")
}
