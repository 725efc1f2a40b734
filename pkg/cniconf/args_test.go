// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestArgsAreReadLeniently(t *testing.T) {
	const uid = "28ce45bc-63f8-48a3-a99b-cfb9e63c856c"
	noName := " is ignored: not letters, digits, '.', '_' and '-' after a letter or digit"
	long := strings.Repeat("n", 64)
	for _, tt := range []struct {
		name, in string
		want     Identity
		warnings []string
	}{
		{"empty", "", Identity{}, nil},
		{
			"containerd",
			"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0.a;K8S_POD_INFRA_CONTAINER_ID=0f1e;K8S_POD_UID=" + uid,
			Identity{"default", "web-0.a", uid, "0f1e"}, nil,
		},
		{"spaces and empty pairs", " K8S_POD_NAME=a ;; ; K8S_POD_NAMESPACE=b;",
			Identity{PodName: "a", PodNamespace: "b"}, nil},
		{"empty value", "K8S_POD_UID=;K8S_POD_NAME=a", Identity{PodName: "a"}, nil},
		{"others' values may hold anything", "X=a=b=c;Y==;=z", Identity{}, nil},
		{"no equals sign", "junk;K8S_POD_NAME=a", Identity{PodName: "a"},
			[]string{`CNI_ARGS: "junk" is ignored: no "=" in it`}},
		{"key in other case", "k8s_pod_name=a", Identity{}, nil},
		{"last one counts", "K8S_POD_NAME=a;K8S_POD_NAME=b", Identity{PodName: "b"}, nil},
		{"longest namespace", "K8S_POD_NAMESPACE=" + long[:63], Identity{PodNamespace: long[:63]}, nil},
		{
			"too long", "K8S_POD_NAMESPACE=" + long, Identity{},
			[]string{`CNI_ARGS: K8S_POD_NAMESPACE="` + long + `" is ignored: longer than 63 bytes`},
		},
		{"path", "K8S_POD_UID=../../x", Identity{}, []string{`CNI_ARGS: K8S_POD_UID="../../x"` + noName}},
		{"equals sign", "K8S_POD_NAME=a=b", Identity{}, []string{`CNI_ARGS: K8S_POD_NAME="a=b"` + noName}},
		{"control", "K8S_POD_NAME=a\x1b[1m", Identity{}, []string{`CNI_ARGS: K8S_POD_NAME="a\x1b[1m"` + noName}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, warnings := ParseArgs(tt.in)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.warnings, warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestArgsWarningsAreBounded(t *testing.T) {
	_, warnings := ParseArgs(strings.Repeat("junk;", 10000))
	if len(warnings) != maxWarnings+1 {
		t.Errorf("got %d warnings", len(warnings))
	}
}
