// SPDX-License-Identifier: Apache-2.0

package install

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func newEntry(t testing.TB, config string, hazards ...string) Entry {
	t.Helper()
	e, err := NewEntry(config, hazards)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustRead(t testing.TB, text string) *listText {
	t.Helper()
	l, err := readList([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const ourText = `{"type":"sockmap","capabilities":{"cgroupPath":true,"io.kubernetes.cri.pod-annotations":true}}`

func TestEntryIsFormattedLikeItsNeighbours(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"one line": {
			`{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"ptp"}]}`,
			`{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"ptp"},` + ourText + `]}`,
		},
		"one line with spaces": {
			`{ "name": "n", "cniVersion": "1.0.0", "plugins": [ { "type": "ptp" } ] }`,
			`{ "name": "n", "cniVersion": "1.0.0", "plugins": [ { "type": "ptp" }, ` + ourText + ` ] }`,
		},
		"two spaces": {
			"{\n  \"name\": \"n\", \"cniVersion\": \"1.0.0\",\n  \"plugins\": [\n    {\n      \"type\": \"ptp\"\n    }\n  ]\n}\n",
			"{\n  \"name\": \"n\", \"cniVersion\": \"1.0.0\",\n  \"plugins\": [\n    {\n      \"type\": \"ptp\"\n    },\n" +
				"    {\n      \"type\": \"sockmap\",\n      \"capabilities\": {\n        \"cgroupPath\": true,\n" +
				"        \"io.kubernetes.cri.pod-annotations\": true\n      }\n    }\n  ]\n}\n",
		},
		"tabs": {
			"{\n\t\"name\": \"n\", \"cniVersion\": \"1.0.0\",\n\t\"plugins\": [\n\t\t{\"type\": \"ptp\"},\n\t\t{\"type\": \"portmap\"}\n\t]\n}",
			"{\n\t\"name\": \"n\", \"cniVersion\": \"1.0.0\",\n\t\"plugins\": [\n\t\t{\"type\": \"ptp\"},\n\t\t{\"type\": \"portmap\"},\n" +
				"\t\t{\n\t\t\t\"type\": \"sockmap\",\n\t\t\t\"capabilities\": {\n\t\t\t\t\"cgroupPath\": true,\n" +
				"\t\t\t\t\"io.kubernetes.cri.pod-annotations\": true\n\t\t\t}\n\t\t}\n\t]\n}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mustRead(t, c.before).chained(newEntry(t, ""))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.after, string(got)); diff != "" {
				t.Error(diff)
			}
			back, err := mustRead(t, string(got)).unchained()
			if err != nil || string(back) != c.before {
				t.Errorf("taken out again: %v, %s", err, cmp.Diff(c.before, string(back)))
			}
		})
	}
}

func TestEntryOccursOnceAndNotFirst(t *testing.T) {
	list := func(plugins ...string) string {
		return `{"name":"n","cniVersion":"1.0.0","plugins":[` + strings.Join(plugins, ",") + `]}`
	}
	const ptp, istio, other = `{"type":"ptp"}`, `{"type":"istio-cni"}`, `{"type":"sockmap","required":true}`
	for name, c := range map[string]struct{ before, after string }{
		"missing": {list(ptp), list(ptp, ourText)},
		"there":   {list(ptp, ourText), list(ptp, ourText)},
		"there in another layout": {list(ptp,
			`{"capabilities" : {"io.kubernetes.cri.pod-annotations":true,"cgroupPath":true}, "type":"sockmap"}`), ""},
		"there with another configuration": {list(ptp, other), list(ptp, ourText)},
		"before another":                   {list(ptp, ourText, istio), list(ptp, ourText, istio)},
		"changed before another":           {list(ptp, other, istio), list(ptp, ourText, istio)},
		"first":                            {list(other, ptp), list(ptp, ourText)},
		"twice":                            {list(ptp, other, other), list(ptp, ourText)},
		"first and last":                   {list(ourText, ptp, ourText), list(ptp, ourText)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mustRead(t, c.before).chained(newEntry(t, ""))
			if err != nil {
				t.Fatal(err)
			}
			want := c.after
			if want == "" {
				want = c.before
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheLastOfRepeatedKeysCounts(t *testing.T) {
	const text = `{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"old"}],"plugins":[{"type":"ptp"}], "Plugins":[{"type":"x"}]}`
	got, err := mustRead(t, text).chained(newEntry(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	list, err := libcni.ConfListFromBytes(got)
	if err != nil || len(list.Plugins) != 2 || list.Plugins[1].Network.Type != PluginType {
		t.Errorf("libcni reads %v of %s: %v", list, got, err)
	}
}

func TestEntryHasTheConfigurationAndTheHazards(t *testing.T) {
	for name, c := range map[string]struct {
		config  string
		hazards []string
		want    string // the entry, or a part of the error
		fails   bool
	}{
		"nothing": {"", nil, ourText, false},
		"keys": {`{"required": true, "maxSockets": 1000}`, nil,
			strings.TrimSuffix(ourText, "}") + `,"required":true,"maxSockets":1000}`, false},
		"hazards": {"", []string{"splice"}, strings.TrimSuffix(ourText,
			"}") + `,"acceptHazards":["splice"]}`, false},
		"hazards of both": {`{"acceptHazards":["mptcp","splice"]}`, []string{"splice", "fin"},
			strings.TrimSuffix(ourText, "}") + `,"acceptHazards":["mptcp","splice","fin"]}`, false},
		"other capabilities": {`{"capabilities":{"cgroupPath":true}}`, nil,
			`{"type":"sockmap","capabilities":{"cgroupPath":true}}`, false},
		"wrong value": {`{"peers":"cluster"}`, nil, `peers: "cluster" is not one of node, namespace, pod`,
			true},
		"wrong hazard":   {"", []string{"splcie"}, `"splcie" is not one of`, true},
		"other type":     {`{"type":"ptp"}`, nil, `"ptp" is not "sockmap"`, true},
		"the list's key": {`{"name":"n"}`, nil, "name: it belongs to the list", true},
		"no object":      {`[]`, nil, "not a JSON object", true},
		"no JSON":        {`{"required": yes}`, nil, "invalid character 'y'", true},
		"trailing text":  {`{} {}`, nil, "invalid character", true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := NewEntry(c.config, c.hazards)
			if c.fails {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, %v; want an error with %q", e, err, c.want)
				}
				return
			}
			if err != nil || e.String() != c.want {
				t.Errorf("got %v, %v; want %s", e, err, c.want)
			}
		})
	}
	if e := newEntry(t, `{"colour":"blue"}`); len(e.Conf.Warnings) != 1 {
		t.Errorf("warnings of an unknown key: %q", e.Conf.Warnings)
	}
}

func TestChangesAreDescribed(t *testing.T) {
	const was = `{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"ptp","mtu":1},{"type":"sockmap"}]}`
	for name, c := range map[string]struct{ is, want string }{
		"entry out": {`{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"ptp","mtu":1}]}`,
			`plugin "sockmap" was removed`},
		"also others": {`{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"ptp","mtu":2},{"type":"istio-cni"}]}`,
			`plugin "ptp" was changed; plugin "istio-cni" was added; plugin "sockmap" was removed`},
		"name": {`{"name":"m","plugins":[{"type":"ptp","mtu":1},{"type":"sockmap"}],"x":1}`,
			`key "name" was changed from "n" to "m"; key "x" was added; key "cniVersion" was removed`},
		"emptied": {" \n", "the file was emptied"},
		"half":    {`{"name":"n","plug`, "the file is no JSON object any more: unexpected end of JSON input"},
		"same":    {was, "the same was written again"},
	} {
		if got := Changes([]byte(was), []byte(c.is)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := Changes([]byte(was), nil); got != "the file was removed" {
		t.Errorf("removed: %q", got)
	}
}

// For any list that libcni loads, adding and removing the entry restores the same bytes.
func FuzzChainAndBack(f *testing.F) {
	for _, c := range conflists {
		f.Add([]byte(c.text))
	}
	f.Add([]byte(`{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"a"},{"Type":"sockmap"}],"plugins":[1e999]}`))
	entry, err := NewEntry("", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := libcni.ConfListFromBytes(text)
		if err != nil || len(list.Plugins) == 0 {
			return
		}
		l, err := readList(text)
		if err != nil {
			t.Fatalf("libcni reads it and readList does not: %v", err)
		}
		had := len(l.ownEntries()) > 0
		after, err := l.chained(entry)
		if err != nil {
			if len(list.Plugins) > len(l.ownEntries()) {
				t.Fatal(err)
			}
			return
		}
		if err := verify(list, after); err != nil {
			t.Fatalf("%v\n%s", err, after)
		}
		back, err := mustRead(t, string(after)).unchained()
		if err != nil {
			t.Fatal(err)
		}
		if !had && string(back) != string(text) {
			t.Errorf("%q came back as %q", text, back)
		}
	})
}
