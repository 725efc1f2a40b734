// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// meanings of label values, by label. The test fails for a value of the data path that is missing.
var meanings = map[string]map[string]string{
	"role": {
		"active":  "the end that called connect(2)",
		"passive": "the end that came out of accept(2)",
	},
	"mode": {
		"pending":  "it has sent nothing yet",
		"redirect": "its last message went from socket to socket",
		"tcp":      "its last message went by TCP",
		"left":     "it is out of the sockhash for good, and plain TCP",
	},
	"result": {
		"joined":    "both ends are known, and the flow may be redirected",
		"remote":    "the other end is not in an endpoint of this node",
		"denied":    "the `peers` or `ports` of an endpoint say no",
		"collision": "another flow has the same two sequence numbers",
		"map-full":  "`maxSockets` is reached",
		"repair":    "the socket was made by TCP_REPAIR (CRIU), so its sequence numbers prove nothing",
		"mptcp":     "the socket is a subflow of Multipath TCP",
		"ulp":       "the socket has an upper-layer protocol (kTLS)",
		"error":     "no memory, or the socket is in another sockmap",
		"option":    "a socket option was set before that only TCP honours: SO_ZEROCOPY, TCP_INQ, SO_TIMESTAMPING and its kin",
		"avoided":   "an earlier flow did what only TCP does right: its server, or its client for itself; `sockmapctl avoided` lists them",
		"blocking":  "the client's descriptor is blocking (guard `blocking`)",
		"share":     "the pod holds its share of the sockhash, which is more than half full",
		"helper":    "a conntrack helper of this node rewrites the payload of this port (FTP, SIP, IRC)",
		"foreign":   "another program above the pod's cgroup has the socket, or takes our callbacks away",
		"stream":    "the last 4 connections to this destination left the sockhash, because they gained nothing; the other end counts `remote`",
		"short":     "the last 256 connections to this destination ended after a few messages; the other end counts `remote`",
	},
	"reason": {
		"no-peer":          "the other end has not joined yet, or is gone",
		"unread":           "the reader has not read all bytes that went by TCP",
		"backlog-bytes":    "the reader is behind by more than `maxBacklogBytes`, or half of what its receive buffer may grow to",
		"backlog-messages": "the reader is behind by more than `maxBacklogMessages`",
		"rcvlowat":         "the reader set SO_RCVLOWAT",
		"state":            "the socket is neither established nor half closed by its peer",
		"ulp":              "one end has an upper-layer protocol (kTLS)",
		"disabled":         "`sockmapctl disable`",
		"policy":           "the `peers` or `ports` of an endpoint were changed and say no now",
		"peer-left":        "the other end is closing",
		"learning":         "the reader may wait inside receive calls and has not called one yet, so it is not known how it reads",
		"waitall":          "the reader uses MSG_WAITALL",
		"oob":              "the sender uses MSG_OOB",
		"inq":              "the reader set TCP_INQ",
		"zerocopy":         "the sender set SO_ZEROCOPY",
		"blocking":         "the reader waits inside receive calls (guard `blocking`)",
		"discard":          "the reader uses MSG_TRUNC",
		"splice":           "the reader uses splice(2)",
		"option":           "one end set timestamps, SO_PEEK_OFF or a socket filter",
		"refresh":          "one message for each `natRefreshSeconds`, so that conntrack and IPVS see that the connection is in use",
		"memory":           "the node or the reader's memory cgroup is short of memory for sockets",
		"shutdown":         "the reader has shut down its receiving side",
		"early":            "the first message of a server: a receive call of its client may have begun before the connection was there",
		"leaving":          "the other end leaves the sockhash: from then on the connection is plain TCP",
		"corked":           "the sender uses TCP_CORK: TCP joins what a redirect delivers piece by piece; the connection leaves the sockhash",
		"pages":            "the sender uses sendfile(2): TCP sends pages that a redirect copies; the connection leaves the sockhash",
		"small":            "a stream of small messages one way, which TCP joins; the connection leaves the sockhash",
		"contended":        "small messages would wait for the lock of a reader that is taking bytes on another CPU",
	},
	"state": {
		"accelerated": "the container takes part",
		"declined":    "it does not; `sockmapctl endpoints` tells why",
	},
	"hazard": meaningsOfHazards(),
	"guard":  meaningsOfGuards(),
	"action": meaningsOfActions(),
	"reported": {
		"true":  "the runtime got the error",
		"false": "it was told that all is well: a container that is not accelerated starts, and a DEL succeeds",
	},
	"program": {
		"sock_ops":     "a connection of a container is made, answered or closed",
		"sock_ops_any": "the same, in a cgroup that was attached by hand",
		"verdict":      "a message is sent on a socket of the sockhash",
	},
	"severity": {
		"severe": "it loses data, hangs common programs or endangers the node: containers are declined unless it is guarded or accepted",
		"minor":  "an answer of the socket API differs",
	},
	"map": {
		datapath.MapSockets:     "sockets in the sockhash; the room is `maxSockets`",
		datapath.MapEndpoints:   "registered network namespaces",
		datapath.MapAttachments: "records of CNI ADDs",
	},
}

func meaningsOfActions() map[string]string {
	all := map[string]string{}
	for _, a := range actions() {
		all[a.name] = a.meaning + " (guard `" + a.guard + "`)"
	}
	return all
}

func namesOfActions() (all []string) {
	for _, a := range actions() {
		all = append(all, a.name)
	}
	return all
}

func meaningsOfHazards() map[string]string {
	all := map[string]string{}
	for _, h := range hazard.All() {
		all[h.Name] = h.Meaning
	}
	return all
}

func meaningsOfGuards() map[string]string {
	all := map[string]string{}
	for _, g := range cniconf.Guards {
		all[g.Name] = g.Summary
	}
	return all
}

const preamble = `<!-- Generated from pkg/metrics: go test ./pkg/metrics -update -->

# Metrics

` + "`sockmapctl metrics`" + ` prints these in the Prometheus text format.

Only ` + "`namespace` and `pod`" + ` grow with the node. Both are empty for sockets of no known pod: of cgroups attached by hand, of containers that
have no pod, and of endpoints that are gone. That series has every value of the other labels from the start. A pod's series for results
other than ` + "`joined`" + `, and for reasons, begin with the first event. Containers of one pod are added up.

Bytes and messages are those of the live sockets and of those that closed. When a container goes, its series end; no other series takes
over their counts, so rates stay right, and sums over all pods may fall. ` + "`sockmapctl status`" + ` has the node's sums since loading.

How many series a node has is bounded: ` + "`--max-pods`" + ` of ` + "`sockmapctl agent` and `metrics`" + ` says how many pods have series of their own, and
` + "`sockmap_pods_without_series`" + ` how many have none because of it. ` + "`--per-pod=false`" + ` tells no pods apart: all counts are in the series of no known
pod, containers that are gone included, so that it never falls.

The label ` + "`code`" + ` is the number of a CNI error: 4 environment, 5 I/O, 6 syntax and 7 content of the configuration, or that of the reason why
a container is not accelerated, see [below](#why-a-container-is-not-accelerated). ` + "`command`" + ` is ` + "`ADD`, `DEL`, `CHECK` or `GC`" + `. Calls are counted while the programs are loaded, which the
first ADD of a boot does; a call that a stuck process keeps from being counted within 20 ms is not.

`

const whyNot = `
## Why a container is not accelerated

Values of the label ` + "`reason`" + ` of ` + "`sockmap_attachments`" + `, and of ` + "`reason`" + ` in what ` + "`sockmapctl endpoints`, `status` and the agent's\n`/readyz`" +
	` say. The number is kept in the record of the ADD; numbers, names and codes never change. The code is that of the CNI error: the
runtime gets it where acceleration is required, and ` + "`sockmap_cni_errors_total`" + ` counts it in any case.

| value | number | code | meaning |
|---|---|---|---|
`

func metricsDoc() string {
	var b strings.Builder
	b.WriteString(preamble)
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, d := range descriptors() {
		labels := ""
		if len(d.labels) > 0 {
			labels = "`" + strings.Join(d.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.name, d.kind, labels, d.help)
	}
	for _, l := range []struct {
		label  string
		values []string
	}{
		{"role", names(datapath.Roles())},
		{"result", names(datapath.Results())},
		{"mode", names(datapath.Modes())},
		{"reason", names(datapath.Reasons())}, // of fallbacks; those of endpoints come last
		{"state", []string{"accelerated", "declined"}},
		{"hazard", hazard.SetOf(cniconf.HazardAll).Names()},
		{"severity", []string{string(hazard.Severe), string(hazard.Minor)}},
		{"guard", datapath.Guards[:]},
		{"action", namesOfActions()},
		{"reported", []string{"true", "false"}},
		{"program", datapath.Programs()},
		{"map", []string{datapath.MapSockets, datapath.MapEndpoints, datapath.MapAttachments}},
	} {
		fmt.Fprintf(&b, "\n## Values of `%s`\n\n| value | meaning |\n|---|---|\n", l.label)
		for _, v := range l.values {
			fmt.Fprintf(&b, "| `%s` | %s |\n", v, meanings[l.label][v])
		}
	}
	b.WriteString(whyNot)
	for _, r := range decline.All() {
		fmt.Fprintf(&b, "| `%s` | %d | %d | %s |\n", r, r, r.Code(), r.Meaning())
	}
	return b.String()
}

func names[T fmt.Stringer](values []T) []string {
	var all []string
	for _, v := range values {
		all = append(all, v.String())
	}
	return all
}

func TestMetricsAreDocumented(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "METRICS.md"), metricsDoc())
}

func TestEveryLabelValueIsExplained(t *testing.T) {
	for label, values := range map[string][]string{
		"role": names(datapath.Roles()), "mode": names(datapath.Modes()),
		"result": names(datapath.Results()), "reason": names(datapath.Reasons()),
		"hazard": hazard.SetOf(cniconf.HazardAll).Names(), "guard": datapath.Guards[:],
		"program": datapath.Programs(), "action": namesOfActions(),
	} {
		for _, v := range values {
			if meanings[label][v] == "" {
				t.Errorf("%s %q has no meaning in the documentation", label, v)
			}
		}
		if len(values) != len(meanings[label]) {
			t.Errorf("%s: %d values exist, %d are explained", label, len(values), len(meanings[label]))
		}
	}
}
