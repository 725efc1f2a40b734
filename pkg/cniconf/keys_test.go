// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func mustParse(t *testing.T, stdin string) *Conf {
	t.Helper()
	conf, err := Parse([]byte(stdin))
	if err != nil {
		t.Fatalf("parse %s: %v", stdin, err)
	}
	return conf
}

func TestEmptyConfigurationHasTheDefaults(t *testing.T) {
	want := &Conf{
		Enabled:            true,
		BPFFSPath:          "/sys/fs/bpf/sockmap",
		MaxSockets:         65536,
		MaxBacklogBytes:    8388608,
		MaxBacklogMessages: 4096,
		NATRefreshSeconds:  60,
		Coexist:            "yield",
		ConntrackHelpers:   "avoid",
		Peers:              "node",
		Guards:             []string{"splice", "observe", "blocking", "options", "fionread"},
		LogLevel:           slog.LevelInfo,
	}
	if diff := cmp.Diff(want, mustParse(t, `{}`)); diff != "" {
		t.Error(diff)
	}
}

func TestEachDefaultOfTheKeyTableIsTheDefault(t *testing.T) {
	for _, k := range keys() {
		for _, written := range []string{k.def, "null"} {
			got := mustParse(t, fmt.Sprintf(`{%q: %s}`, k.name, written))
			if diff := cmp.Diff(defaults(), got); diff != "" && k.def != "[]" {
				t.Errorf("%s: %s: %s", k.name, written, diff)
			}
		}
	}
}

func TestEveryKeySetsItsField(t *testing.T) {
	got := mustParse(t, `{
		"cniVersion": "1.1.0", "name": "net", "type": "sockmap",
		"enabled": false, "required": true,
		"cgroupPath": "/kubepods//pod1/", "bpffsPath": "/run/bpf/sockmap/",
		"maxSockets": 4194304, "maxBacklogBytes": 4096, "maxBacklogMessages": 1,
		"natRefreshSeconds": 3600, "coexist": "share", "conntrackHelpers": "ignore",
		"peers": "pod",
		"ports": {"include": ["443", "80"], "exclude": ["1-1023"]},
		"acceptHazards": ["fin", "all"],
		"guards": ["options"],
		"logLevel": "debug", "logFile": "/var/log/sockmap.log",
		"runtimeConfig": {"cgroupPath": "kubepods-pod1.slice", "io.kubernetes.cri.pod-annotations": {"a": "b"}}
	}`)
	want := &Conf{
		CNIVersion: "1.1.0", Name: "net", Type: "sockmap",
		Required:   true,
		CgroupPath: "/kubepods/pod1", BPFFSPath: "/run/bpf/sockmap",
		MaxSockets: 4194304, MaxBacklogBytes: 4096, MaxBacklogMessages: 1,
		NATRefreshSeconds: 3600, Coexist: CoexistShare, ConntrackHelpers: HelpersIgnore,
		Peers: PeersPod,
		Ports: Ports{Include: []PortRange{{First: 80, Last: 80}, {First: 443, Last: 443}},
			Exclude: []PortRange{{First: 1, Last: 1023}}},
		AcceptHazards: []string{"fin", "all"},
		Guards:        []string{"options"},
		LogLevel:      slog.LevelDebug, LogFile: "/var/log/sockmap.log",
		RuntimeCgroupPath: "kubepods-pod1.slice",
		Annotations:       map[string]string{"a": "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAllWrongValuesAreReportedAtOnce(t *testing.T) {
	_, err := Parse([]byte(`{"ports": {"include": ["x", "80", "y"], "exclude": "z"}, "peers": 1, "enabled": 2}`))
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %v, want joined errors", err)
	}
	var got []string
	for _, err := range joined.Unwrap() {
		var field *FieldError
		if !errors.As(err, &field) {
			t.Fatalf("got %v, want a *FieldError", err)
		}
		got = append(got, field.Key)
	}
	want := []string{"enabled", "peers", "ports.include[0]", "ports.include[2]", "ports.exclude"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLenientParseDropsAllPortsIfOneIsWrong(t *testing.T) {
	conf, err := ParseLenient([]byte(`{"ports": {"include": ["80"], "exclude": ["x"]}, "peers": "pod"}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Ports{}, conf.Ports); diff != "" {
		t.Error(diff)
	}
	if conf.Peers != PeersPod {
		t.Errorf("a right value beside a wrong one was lost: peers is %q", conf.Peers)
	}
}

func TestPortRangesAreJoinedAndSorted(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []PortRange
	}{
		{`[]`, nil},
		{`null`, nil},
		{`["1-65535"]`, []PortRange{{First: 1, Last: 65535}}},
		{`["443", "80"]`, []PortRange{{First: 80, Last: 80}, {First: 443, Last: 443}}},
		{`["80", "80"]`, []PortRange{{First: 80, Last: 80}}},
		{`["82", "80", "81"]`, []PortRange{{First: 80, Last: 82}}},
		{`["80", "82"]`, []PortRange{{First: 80, Last: 80}, {First: 82, Last: 82}}},
		{`["100-200", "150-160"]`, []PortRange{{First: 100, Last: 200}}},
		{`["150-300", "100-200"]`, []PortRange{{First: 100, Last: 300}}},
		{`["65535", "1-65534", "7"]`, []PortRange{{First: 1, Last: 65535}}},
		{`["65535", "65535", "1"]`, []PortRange{{First: 1, Last: 1}, {First: 65535, Last: 65535}}},
	} {
		got := mustParse(t, `{"ports": {"include": `+tt.in+`}}`).Ports.Include
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.in, diff)
		}
	}
}

func TestPortRangesAreCountedAfterJoining(t *testing.T) {
	list := func(n, step int) string {
		var ports []string
		for i := range n {
			ports = append(ports, fmt.Sprintf(`"%d"`, 1000+i*step))
		}
		return `{"ports": {"exclude": [` + strings.Join(ports, ",") + `]}}`
	}
	if n := len(mustParse(t, list(MaxPortRanges, 2)).Ports.Exclude); n != MaxPortRanges {
		t.Errorf("got %d ranges, want %d", n, MaxPortRanges)
	}
	if diff := cmp.Diff([]PortRange{{First: 1000, Last: 1099}},
		mustParse(t, list(100, 1)).Ports.Exclude); diff != "" {
		t.Error(diff)
	}
	_, err := Parse([]byte(list(MaxPortRanges+1, 2)))
	want := "ports.exclude: a list of 17 separate ranges is not a list of at most 16 " +
		"(ranges that overlap or adjoin count as one)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestPortRangePrintsAsConfigured(t *testing.T) {
	for want, r := range map[string]PortRange{"80": {First: 80, Last: 80},
		"8000-8999": {First: 8000, Last: 8999}} {
		if r.String() != want {
			t.Errorf("got %s, want %s", r, want)
		}
	}
}

func TestNATRefreshSecondsAcceptsZeroAndItsBounds(t *testing.T) {
	for _, seconds := range []uint32{0, 1, 3600} {
		if got := mustParse(t, fmt.Sprintf(`{"natRefreshSeconds": %d}`,
			seconds)).NATRefreshSeconds; got != seconds {
			t.Errorf("got %d seconds, want %d", got, seconds)
		}
	}
}

func TestGuardsThatAreNotListedAreOff(t *testing.T) {
	for in, want := range map[string][]string{
		`{}`:                                 {},
		`{"guards": null}`:                   {},
		`{"guards": []}`:                     {"splice", "observe", "blocking", "options", "fionread"},
		`{"guards": ["options", "options"]}`: {"splice", "observe", "blocking", "fionread"},
	} {
		if diff := cmp.Diff(want, mustParse(t, in).GuardsOff()); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func TestSyntaxErrorsNameLineAndColumn(t *testing.T) {
	for _, tt := range []struct {
		in           string
		line, column int
		offset       int64
		text         string
	}{
		{"", 1, 1, 0, "unexpected end of JSON input"},
		{"{", 1, 1, 1, "unexpected end of JSON input"},
		{"{\n  \"peers\": node\n}", 2, 13, 15, "invalid character 'o' in literal null (expecting 'u')"},
		{`{"a":1} x`, 1, 9, 9, "invalid character 'x' after top-level value"},
		{`{"a":1,}`, 1, 8, 8, "invalid character '}' looking for beginning of object key string"},
		{`[]`, 1, 1, 0, "not a JSON object"},
		{`null`, 1, 1, 0, "not a JSON object"},
		{`"{}"`, 1, 1, 0, "not a JSON object"},
	} {
		conf, err := Parse([]byte(tt.in))
		var got *SyntaxError
		if !errors.As(err, &got) || conf != nil {
			t.Errorf("%q: got %v and error %v, want a *SyntaxError", tt.in, conf, err)
			continue
		}
		if got.Line != tt.line || got.Column != tt.column || got.Offset != tt.offset {
			t.Errorf("%q: got line %d, column %d, byte %d, want %d, %d, %d", tt.in,
				got.Line, got.Column, got.Offset, tt.line, tt.column, tt.offset)
		}
		if !strings.HasSuffix(err.Error(), tt.text) {
			t.Errorf("%q: got %q, want it to end in %q", tt.in, err, tt.text)
		}
		lenient, err := ParseLenient([]byte(tt.in))
		if !errors.As(err, &got) {
			t.Errorf("%q: lenient: got %v, want a *SyntaxError", tt.in, err)
		}
		if diff := cmp.Diff(defaults(), lenient); diff != "" {
			t.Errorf("%q: lenient: %s", tt.in, diff)
		}
	}
}

func TestUnknownKeysWarnAndNearMissesAreNamed(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{`{"ipam": {}, "dns": {}, "args": {}, "capabilities": {}, "cni.dev/other": 1, "name": "n"}`, nil},
		{`{"maxSocket": 1}`, []string{`unknown key "maxSocket" is ignored (did you mean "maxSockets"?)`}},
		{`{"Enabled": false}`, []string{`unknown key "Enabled" is ignored (did you mean "enabled"?)`}},
		{`{"bpfPath": "/x"}`, []string{`unknown key "bpfPath" is ignored (did you mean "bpffsPath"?)`}},
		{`{"peer": "pod"}`, []string{`unknown key "peer" is ignored (did you mean "peers"?)`}},
		// two edits from ports, which has five letters
		{`{"parks": 1}`, []string{`unknown key "parks" is ignored`}},
		{`{"colour": 1, "": 2}`, []string{`unknown key "colour" is ignored`, `unknown key "" is ignored`}},
		{`{"a\u0007\u2028": 1}`, []string{`unknown key "a\a\u2028" is ignored`}},
		{
			`{"ports": {"included": ["80"]}}`,
			[]string{`unknown key "ports.included" is ignored (did you mean "ports.include"?)`},
		},
		{
			`{"capabilities": {"cgrouppath": true, "portMappings": true, "cgroupPath": true}}`,
			[]string{`capability "cgrouppath" is unknown (did you mean "cgroupPath"?)`},
		},
		{`{"peers": "pod", "peers": "node"}`, []string{`key "peers" is given more than once, the last one counts`}},
	} {
		got := mustParse(t, tt.in)
		if diff := cmp.Diff(tt.want, got.Warnings); diff != "" {
			t.Errorf("%s: %s", tt.in, diff)
		}
		got.Warnings, got.Name = nil, ""
		if diff := cmp.Diff(defaults(), got); diff != "" {
			t.Errorf("%s changed something: %s", tt.in, diff)
		}
	}
}

func TestRepeatedKeyCountsByItsLastValue(t *testing.T) {
	if got := mustParse(t, `{"peers": 7, "peers": "pod"}`).Peers; got != PeersPod {
		t.Errorf("got %q, want pod", got)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	var in strings.Builder
	in.WriteString(`{"name": "n"`)
	for i := range 1000 {
		fmt.Fprintf(&in, `, "%d%s": 1`, i, strings.Repeat("x", 1000))
	}
	in.WriteString("}")
	warnings := mustParse(t, in.String()).Warnings
	if n := len(warnings); n != maxWarnings+1 || warnings[n-1] != "further warnings are left out" {
		t.Errorf("got %d warnings, the last %q", n, warnings[n-1])
	}
	if longest := len(warnings[0]); longest > 150 {
		t.Errorf("a warning has %d bytes", longest)
	}
}
