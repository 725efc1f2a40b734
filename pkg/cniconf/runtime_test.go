// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func withAnnotations(t *testing.T, conf string, annotations map[string]string) *Conf {
	t.Helper()
	encoded, err := json.Marshal(annotations)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, fmt.Sprintf(`{%s "runtimeConfig": {"io.kubernetes.cri.pod-annotations": %s}}`, conf,
		encoded))
}

func TestAnnotationOverridesEnabled(t *testing.T) {
	const annotation = "annotation sockmap-cni/accelerate"
	for _, tt := range []struct {
		enabled     bool
		annotations map[string]string
		on          bool
		source      string
		warnings    []string
	}{
		{true, nil, true, "configuration", nil},
		{false, nil, false, "configuration", nil},
		{true, map[string]string{"accelerate": "false"}, true, "configuration", nil},
		{true, map[string]string{AnnotationAccelerate: "false"}, false, annotation, nil},
		{false, map[string]string{AnnotationAccelerate: "true"}, true, annotation, nil},
		{true, map[string]string{AnnotationAccelerate: "true"}, true, annotation, nil},
		{
			true, map[string]string{AnnotationAccelerate: "False"}, true, "configuration",
			[]string{`annotation sockmap-cni/accelerate is ignored: "False" is not one of true, false`},
		},
		{
			false, map[string]string{AnnotationAccelerate: ""}, false, "configuration",
			[]string{`annotation sockmap-cni/accelerate is ignored: "" is not one of true, false`},
		},
		{
			true, map[string]string{"sockmap-cni/acelerate": "false"}, true, "configuration",
			[]string{
				`unknown annotation "sockmap-cni/acelerate" is ignored (did you mean "sockmap-cni/accelerate"?)`,
			},
		},
	} {
		conf := withAnnotations(t, fmt.Sprintf(`"enabled": %v,`, tt.enabled), tt.annotations)
		on, source := conf.Accelerate()
		if on != tt.on || source != tt.source {
			t.Errorf("enabled %v, %v: got %v by %s", tt.enabled, tt.annotations, on, source)
		}
		if diff := cmp.Diff(tt.warnings, conf.Warnings); diff != "" {
			t.Errorf("%v: %s", tt.annotations, diff)
		}
	}
}

func TestHazardsOfConfigurationAndAnnotationAddUp(t *testing.T) {
	var all, ofPod []string
	for _, h := range hazard.Table {
		all = append(all, h.Name)
		if h.Scope == hazard.ScopePod {
			ofPod = append(ofPod, h.Name)
		}
	}
	ofNode := func(name string) string {
		return `annotation sockmap-cni/accept-hazards: "` + name +
			`" is ignored, it is a hazard of the node, which only the key ` +
			`acceptHazards can accept`
	}
	unknown := func(name string) string {
		return `annotation sockmap-cni/accept-hazards: ` + name + ` is ignored, it is not one of all, ` +
			strings.Join(ofPod, ", ")
	}
	for _, tt := range []struct {
		conf, annotation string
		want, warnings   []string
	}{
		{`[]`, "", nil, nil},
		{`["fin", "splice", "fin"]`, "", []string{"splice", "fin"}, nil},
		{`["fin"]`, " splice ,, fin,", []string{"splice", "fin"}, nil},
		{`["all"]`, "", all, nil},
		{`[]`, "splice,all", ofPod, nil},
		{`["all"]`, "all, mptcp", all, nil},
		{`[]`, "mptcp, splice", []string{"splice"}, []string{ofNode("mptcp")}},
		{`[]`, "backpressure,all,memory-charge", ofPod, []string{ofNode("backpressure"), ofNode("memory-charge")}},
		{`["mptcp"]`, "splice, mptcp", []string{"splice", "mptcp"}, nil},
		{`[]`, "Splice, fin,\x1b[31m", []string{"fin"}, []string{unknown(`"Splice"`), unknown(`"\x1b[31m"`)}},
	} {
		conf := withAnnotations(t, `"acceptHazards": `+tt.conf+`,`,
			map[string]string{AnnotationAcceptHazards: tt.annotation})
		if diff := cmp.Diff(tt.want, conf.HazardsAccepted()); diff != "" {
			t.Errorf("%s and %q: %s", tt.conf, tt.annotation, diff)
		}
		if diff := cmp.Diff(tt.warnings, conf.Warnings); diff != "" {
			t.Errorf("%s and %q: %s", tt.conf, tt.annotation, diff)
		}
	}
}

func TestHazardsAcceptedLeavesTheConfigurationAlone(t *testing.T) {
	backing := []string{"fin", "untouched"}
	conf := &Conf{AcceptHazards: backing[:1], Annotations: map[string]string{AnnotationAcceptHazards: "splice"}}
	conf.HazardsAccepted()
	if diff := cmp.Diff([]string{"fin", "untouched"}, backing); diff != "" {
		t.Error(diff)
	}
}

func TestMalformedRuntimeConfigWarnsOnly(t *testing.T) {
	const annotations = "io.kubernetes.cri.pod-annotations"
	for _, tt := range []struct {
		in, cgroupPath string
		annotations    map[string]string
		warnings       []string
	}{
		{`null`, "", nil, nil},
		{`{"portMappings": [], "cgroupPath": null, "` + annotations + `": null}`, "", nil, nil},
		{`[]`, "", nil, []string{`runtimeConfig is ignored: [] is not an object`}},
		{`{"cgroupPath": "../x"}`, "../x", nil, nil},
		{`{"cgroupPath": 1}`, "", nil, []string{`runtimeConfig.cgroupPath is ignored: 1 is not a string`}},
		{`{"` + annotations + `": ["a"]}`, "", nil,
			[]string{`pod annotations are ignored: ["a"] is not an object`}},
		{
			`{"` + annotations + `": {"a": "1", "b": 2, "c": null}}`, "", map[string]string{"a": "1"},
			[]string{
				`annotation "b" is ignored: 2 is not a string`,
				`annotation "c" is ignored: null is not a string`,
			},
		},
	} {
		conf := mustParse(t, `{"runtimeConfig": `+tt.in+`}`)
		if conf.RuntimeCgroupPath != tt.cgroupPath {
			t.Errorf("%s: got cgroup path %q, want %q", tt.in, conf.RuntimeCgroupPath, tt.cgroupPath)
		}
		if diff := cmp.Diff(tt.annotations, conf.Annotations); diff != "" {
			t.Errorf("%s: %s", tt.in, diff)
		}
		if diff := cmp.Diff(tt.warnings, conf.Warnings); diff != "" {
			t.Errorf("%s: %s", tt.in, diff)
		}
	}
}

func TestPrevResultKeepsItsBytes(t *testing.T) {
	for _, golden := range []string{
		`{}`,
		`{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/16"}],"interfaces":[]}`,
		"{ \"cniVersion\" :\t\"0.4.0\" ,\r\n  \"unknown\" : { \"deep\" : [ 1 , null ] } \n}",
		`{"big":123456789012345678901234567890,"tiny":1e-400,"frac":1.0,"neg":-0}`,
		`{"escapes":"\u00e4\u0000\ud83d\ude00\/\u003c","raw":"ä<>&` + "\u2028" + `"}`,
		`{"lone":"\ud800","bytes":"` + "\xff\xfe" + `"}`,
		`{"twice":1,"twice":2,"":{"prevResult":null}}`,
	} {
		for _, around := range []string{
			`{"prevResult":%s}`, "{\n \"name\": \"n\",\n \"prevResult\" :\n\t%s \n,\"peers\":\"pod\"}\n",
			`{"prevR\u0065sult": %s }`,
		} {
			conf := mustParse(t, fmt.Sprintf(around, golden))
			if diff := cmp.Diff(golden, string(conf.PrevResult)); diff != "" {
				t.Errorf("in %s: %s", around, diff)
			}
			lenient, err := ParseLenient(fmt.Appendf(nil, around, golden))
			if err != nil || string(lenient.PrevResult) != golden {
				t.Errorf("lenient, in %s: got %s, error %v", around, lenient.PrevResult, err)
			}
		}
	}
}

func TestPrevResultIsNilWhenThereIsNone(t *testing.T) {
	for _, in := range []string{`{}`, `{"prevResult": null}`, `{"PrevResult": {}}`} {
		if got := mustParse(t, in).PrevResult; got != nil {
			t.Errorf("%s: got %s", in, got)
		}
	}
}

// TestPrevResultIsACopy: a runtime's buffer may be used again.
func TestPrevResultIsACopy(t *testing.T) {
	stdin := []byte(`{"prevResult":{"a":1}}`)
	conf, err := Parse(stdin)
	if err != nil {
		t.Fatal(err)
	}
	clear(stdin)
	if got := string(conf.PrevResult); got != `{"a":1}` {
		t.Errorf("got %q", got)
	}
}

func TestValidAttachmentsDistinguishAbsentFromEmpty(t *testing.T) {
	one := []Attachment{{"a.b-c", "eth0"}}
	for _, tt := range []struct {
		in   string
		want *[]Attachment
	}{
		{`{}`, nil},
		{`{"cni.dev/valid-attachments": []}`, &[]Attachment{}},
		{`{"cni.dev/valid-attachments": null}`, &[]Attachment{}},
		{`{"cni.dev/attachments": null}`, &[]Attachment{}},
		{`{"cni.dev/valid-attachments": [{"containerID": "a.b-c", "ifname": "eth0", "more": 1}]}`, &one},
		{`{"cni.dev/attachments": [{"containerID": "a.b-c", "ifname": "eth0"}]}`, &one},
		{`{"cni.dev/attachments": [], "cni.dev/valid-attachments": [{"containerID": "a.b-c", "ifname": "eth0"}]}`,
			&one},
	} {
		if diff := cmp.Diff(tt.want, mustParse(t, tt.in).ValidAttachments); diff != "" {
			t.Errorf("%s: %s", tt.in, diff)
		}
	}
}
