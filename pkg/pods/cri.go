// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Sockets are where containerd, k3s and CRI-O listen.
var Sockets = []string{"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock",
	"/run/crio/crio.sock"}

// FindSocket returns the first of Sockets that exists; ok is false if none does.
func FindSocket() (path string, ok bool) {
	for _, path := range Sockets {
		if info, err := os.Stat(path); err == nil && info.Mode().Type() == os.ModeSocket {
			return path, true
		}
	}
	return "", false
}

// criMessage bounds the size of a reply in bytes: the status of one sandbox, or the list of all.
const criMessage = 16 << 20

// reconnect applies after a restart of the runtime. By default gRPC would wait up to two minutes.
var reconnect = grpc.ConnectParams{
	Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2,
		MaxDelay: 5 * time.Second},
	MinConnectTimeout: time.Second,
}

// CRI is a client of a runtime's CRI socket. The caller closes it.
type CRI struct {
	socket  string
	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient

	mu    sync.Mutex
	known map[string]Pod // the last list; the details of a running sandbox do not change
}

// DialCRI does not connect: the first request does.
func DialCRI(socket string) (*CRI, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(criMessage)), grpc.WithConnectParams(reconnect))
	if err != nil {
		return nil, fmt.Errorf("open CRI socket %s: %w", socket, err)
	}
	return &CRI{socket: socket, conn: conn, runtime: cri.NewRuntimeServiceClient(conn)}, nil
}

// Close closes the connection.
func (c *CRI) Close() error { return c.conn.Close() }

// Pods lists the sandboxes that are ready. It leaves out those that end meanwhile. After an error it returns
// those that it could read. It asks for the details of each sandbox once.
func (c *CRI) Pods(ctx context.Context) ([]Pod, error) {
	ready := &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}
	list, err := c.runtime.ListPodSandbox(ctx,
		&cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{State: ready}})
	if err != nil {
		return nil, fmt.Errorf("list pods by the CRI socket %s: %w (name the right one, or none, with --cri)",
			c.socket, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pods, known := make([]Pod, 0, len(list.Items)), map[string]Pod{}
	var errs []error // one sandbox that cannot be read must not hide the others
	for _, item := range list.Items {
		p, ok := c.known[item.Id]
		if !ok {
			p, ok, err = c.pod(ctx, item.Id)
			errs = append(errs, err)
		}
		if ok {
			pods, known[item.Id] = append(pods, p), p
		}
	}
	c.known = known
	return pods, errors.Join(errs...)
}

// Runs reports whether a sandbox is ready now.
func (c *CRI) Runs(ctx context.Context, id string) (bool, error) {
	_, runs, err := c.pod(ctx, id)
	return runs, err
}

func (c *CRI) pod(ctx context.Context, id string) (p Pod, runs bool, err error) {
	response, err := c.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id,
		Verbose: true})
	if status.Code(err) == codes.NotFound {
		return Pod{}, false, nil
	}
	if err != nil {
		return Pod{}, false, fmt.Errorf("ask for sandbox %s by CRI: %w", id, err)
	}
	s := response.GetStatus()
	if s.GetState() != cri.PodSandboxState_SANDBOX_READY {
		return Pod{}, false, nil
	}
	m := s.GetMetadata()
	p = Pod{
		ID: id, Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUid(), Annotations: s.GetAnnotations(),
		HostNetwork: s.GetLinux().GetNamespaces().GetOptions().GetNetwork() == cri.NamespaceMode_NODE,
		From:        FromCRI,
	}
	if err := p.readInfo(response.GetInfo()["info"]); err != nil {
		return Pod{}, false, fmt.Errorf("read the status of sandbox %s: %w", id, err)
	}
	return p, true, nil
}

// sandboxInfo is the part that containerd and CRI-O have in common in the verbose status. CRI-O creates no
// pause container unless the containers of the pod share their PID namespace, and then there is no pid. For a
// pod with hostNetwork it contains a network namespace as well, that of the host.
type sandboxInfo struct {
	PID  int `json:"pid"`
	Spec struct {
		Linux struct {
			CgroupsPath string `json:"cgroupsPath"`
			Namespaces  []struct{ Type, Path string }
		} `json:"linux"`
	} `json:"runtimeSpec"`
}

// hostPath is a path of the runtime as this process sees it: a container with the host's /run may have no
// /var/run.
func hostPath(path string) string {
	_, err := os.Stat(path)
	if rest, ok := strings.CutPrefix(path, "/var/run/"); ok && errors.Is(err, fs.ErrNotExist) {
		return "/run/" + rest
	}
	return path
}

// readInfo reads network namespace and cgroup from the runtime's information about a sandbox.
func (p *Pod) readInfo(text string) error {
	var info sandboxInfo
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		return err
	}
	p.Cgroup = parentOf(info.Spec.Linux.CgroupsPath)
	if p.HostNetwork {
		return nil
	}
	for _, n := range info.Spec.Linux.Namespaces {
		if n.Type == "network" {
			p.NetNS = hostPath(n.Path)
		}
	}
	if p.NetNS == "" && info.PID > 0 {
		p.NetNS = netns.ProcessPath(info.PID)
	}
	return nil
}
