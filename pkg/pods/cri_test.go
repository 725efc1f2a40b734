// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// recorded is a runtime with one sandbox, whose replies are the recorded ones of a real runtime.
type recorded struct {
	cri.RuntimeServiceClient
	answer *cri.PodSandboxStatusResponse
}

func (r recorded) PodSandboxStatus(
	_ context.Context, ask *cri.PodSandboxStatusRequest, _ ...grpc.CallOption,
) (*cri.PodSandboxStatusResponse, error) {
	if !ask.Verbose {
		return &cri.PodSandboxStatusResponse{Status: r.answer.Status}, nil
	}
	return r.answer, nil
}

// The answers are CRI-O 1.34's: go test ./test/e2e/crio -record $PWD/pkg/pods/testdata
func TestStatusRepliesOfCRIOAreParsed(t *testing.T) {
	for kind, want := range map[string]Pod{
		// CRI-O drops the pause container: the answer has neither its process nor an image.
		"without-pause": {},
		"with-pause":    {},
		// The specification names a network namespace, which is the host's.
		"host-network": {HostNetwork: true},
	} {
		t.Run(kind, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", "crio-"+kind+".json"))
			if err != nil {
				t.Fatal(err)
			}
			answer := new(cri.PodSandboxStatusResponse)
			if err := json.Unmarshal(text, answer); err != nil {
				t.Fatal(err)
			}
			id, uid := answer.Status.Id, answer.Status.Metadata.Uid
			got, runs, err := (&CRI{runtime: recorded{answer: answer}}).pod(t.Context(), id)
			if err != nil || !runs {
				t.Fatalf("%v, runs: %v", err, runs)
			}
			if want.HostNetwork == strings.Contains(got.NetNS, "/ns/netns/") || want.HostNetwork && got.NetNS != "" {
				t.Errorf("hostNetwork: %v, network namespace: %q", want.HostNetwork, got.NetNS)
			}
			want.ID, want.Namespace, want.Name, want.UID, want.From = id, "default", kind, uid, FromCRI
			want.Cgroup, want.NetNS = "/kubepods/burstable/pod"+uid, got.NetNS
			want.Annotations = map[string]string{
				"kubernetes.io/config.source": "api", "sockmap-cni/accelerate": "true",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
