// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// FuzzParse compares Parse with encoding/json, which finds the previous result in another way.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `null`, `{"a`, `{"prevResult":{"x": 1e400}}`, `{"prevResult":null,"prevResult":{}}`,
		`{"prevResult":{},"enabled":1}`, `{"ports":{"include":["1-65535"],"exclude":["a"]},"prevResult":{ }}`,
		`{"cgroupPath":"/a/../b","bpffsPath":"/a.b","logFile":"x","peers":"x","maxSockets":-1}`,
		`{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"sockmap-cni/accelerate":"no"},"cgroupPath":""}}`,
		`{"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}],"acceptHazards":["all"],"logLevel":"warn"}`,
		"{\"\xff\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stdin []byte) {
		conf, err := Parse(stdin)
		lenient, lenientErr := ParseLenient(stdin)
		if lenient == nil {
			t.Fatal("no lenient configuration")
		}
		var byName map[string]json.RawMessage
		isObject := json.Unmarshal(stdin, &byName) == nil && byName != nil
		var syntax *SyntaxError
		if isObject == errors.As(err, &syntax) || isObject == (lenientErr != nil) {
			t.Fatalf("object: %v, but errors %v and %v", isObject, err, lenientErr)
		}
		if (conf == nil) != (err != nil) {
			t.Fatalf("got %v and %v", conf, err)
		}
		if err == nil {
			if diff := cmp.Diff(conf, lenient); diff != "" {
				t.Fatal("the lenient reading of a right configuration differs:", diff)
			}
			checkBounds(t, conf)
		}
		checkBounds(t, lenient)
		if want := byName["prevResult"]; strings.HasPrefix(string(want), "{") {
			if string(lenient.PrevResult) != string(want) {
				t.Fatalf("prevResult is %q, want %q", lenient.PrevResult, want)
			}
		} else if lenient.PrevResult != nil {
			t.Fatalf("prevResult %q out of nothing", lenient.PrevResult)
		}
	})
}

// checkBounds checks the bounds that every user of a Conf relies on.
func checkBounds(t *testing.T, c *Conf) {
	t.Helper()
	if c.MaxSockets < 1 || c.MaxBacklogBytes < 4096 || c.MaxBacklogMessages < 1 {
		t.Fatalf("a bound of zero: %+v", c)
	}
	if !strings.HasPrefix(c.BPFFSPath, "/") || strings.Contains(c.BPFFSPath, ".") || c.CgroupPath == "/" {
		t.Fatalf("bad path in %+v", c)
	}
	for _, ranges := range [][]PortRange{c.Ports.Include, c.Ports.Exclude} {
		if len(ranges) > MaxPortRanges {
			t.Fatalf("%d port ranges", len(ranges))
		}
		last := -1
		for _, r := range ranges {
			if r.First == 0 || r.First > r.Last || int(r.First) <= last+1 && last >= 0 {
				t.Fatalf("bad port ranges %v", ranges)
			}
			last = int(r.Last)
		}
	}
	if len(c.Warnings) > maxWarnings+1 {
		t.Fatalf("%d warnings", len(c.Warnings))
	}
	c.Accelerate()
	for _, name := range c.HazardsAccepted() {
		if !knownHazard(name) {
			t.Fatalf("accepted hazard %q", name)
		}
	}
}

func FuzzParseArgs(f *testing.F) {
	f.Add("IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c;K8S_POD_INFRA_CONTAINER_ID=d")
	f.Add("=;;K8S_POD_UID=../..;K8S_POD_NAME")
	f.Fuzz(func(t *testing.T, args string) {
		id, warnings := ParseArgs(args)
		if len(warnings) > maxWarnings+1 {
			t.Fatalf("%d warnings", len(warnings))
		}
		for _, s := range []string{id.PodNamespace, id.PodName, id.PodUID, id.InfraContainerID} {
			if s != "" && !isName(s) || len(s) > MaxPodName {
				t.Fatalf("identity %q", s)
			}
			if strings.ContainsAny(s, "/;=\x00\"") {
				t.Fatalf("identity %q", s)
			}
		}
	})
}
