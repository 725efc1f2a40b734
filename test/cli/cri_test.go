// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"rsc.io/script"
)

// runtimeOf serves a CRI socket as containerd does, for the pods of a script. test/e2e uses the real
// containerd and CRI-O; a script needs only a node with pods of each kind.
type runtimeOf struct {
	cri.UnimplementedRuntimeServiceServer
	mu   sync.Mutex
	pods map[string]*cri.PodSandboxStatusResponse
}

// ListPodSandbox implements the service.
func (r *runtimeOf) ListPodSandbox(context.Context,
	*cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := &cri.ListPodSandboxResponse{}
	for id := range r.pods {
		answer.Items = append(answer.Items, &cri.PodSandbox{Id: id})
	}
	return answer, nil
}

// PodSandboxStatus implements the service.
func (r *runtimeOf) PodSandboxStatus(_ context.Context,
	q *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pod := r.pods[q.PodSandboxId]; pod != nil {
		return pod, nil
	}
	return nil, status.Error(codes.NotFound, "no such sandbox")
}

// cripod NAMESPACE/NAME CGROUP [host] [ANNOTATION=VALUE]: a running pod that the runtime at $WORK/cri.sock
// lists.
func (r *runtimeOf) podCommand(t *testing.T) script.Cmd {
	usage := script.CmdUsage{Summary: "have a runtime run a pod",
		Args: "namespace/name cgroup [host] [annotation=value]"}
	return script.Command(usage, func(s *script.State, args ...string) (script.WaitFunc, error) {
		if len(args) < 2 {
			return nil, script.ErrUsage
		}
		namespace, name, _ := strings.Cut(args[0], "/")
		host := slices.Contains(args[2:], "host")
		netNS, mode := "", cri.NamespaceMode_NODE
		if !host {
			netNS, mode = netnstest.New(t).Path, cri.NamespaceMode_POD
		}
		annotations := map[string]string{}
		for _, arg := range args[2:] {
			if key, value, ok := strings.Cut(arg, "="); ok {
				annotations[key] = value
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		first := r.pods == nil
		if first {
			r.pods = map[string]*cri.PodSandboxStatusResponse{}
		}
		id := sandboxID(args[0])
		r.pods[id] = &cri.PodSandboxStatusResponse{
			Status: &cri.PodSandboxStatus{
				Id: id, State: cri.PodSandboxState_SANDBOX_READY, Annotations: annotations,
				Metadata: &cri.PodSandboxMetadata{Namespace: namespace, Name: name, Uid: "u-" + name},
				Linux: &cri.LinuxPodSandboxStatus{
					Namespaces: &cri.Namespace{Options: &cri.NamespaceOption{Network: mode}},
				},
			},
			Info: map[string]string{"info": fmt.Sprintf(
				`{"runtimeSpec":{"linux":{"cgroupsPath":%q,"namespaces":[{"type":"network","path":%q}]}}}`,
				args[1]+"/"+id, netNS)},
		}
		if !first {
			return nil, nil
		}
		return nil, r.serve(t, filepath.Join(s.Getwd(), "cri.sock"))
	})
}

func (r *runtimeOf) serve(t *testing.T, socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, r)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return nil
}
