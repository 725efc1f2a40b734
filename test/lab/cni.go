// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// cniTimeout bounds calls whose context has no deadline.
const cniTimeout = time.Minute

// An Edit changes the runtime configuration that the plugins get.
type Edit func(*libcni.RuntimeConf)

// networks is a parsed conflist.
type networks = libcni.NetworkConfigList

// ADD attaches p to the network of conflist. [Pod.Delete] undoes it, unless
// DEL did. The error is, or wraps, the plugin's *types.Error.
func (n *Node) ADD(ctx context.Context, conflist []byte, p *Pod, edits ...Edit) (types.Result, error) {
	var result types.Result
	err := n.call(ctx, conflist, p, edits,
		func(ctx context.Context, list *networks, rt *libcni.RuntimeConf) (err error) {
			// This comes before the call, because a failed ADD needs a DEL, too.
			p.attach(list.Name, rt.IfName, conflist, edits)
			result, err = n.cni.AddNetworkList(ctx, list, rt)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("ADD %s: %w", p, err)
	}
	return result, p.keep(result)
}

// DEL detaches p from the network of conflist.
func (n *Node) DEL(ctx context.Context, conflist []byte, p *Pod, edits ...Edit) error {
	err := n.call(ctx, conflist, p, edits,
		func(ctx context.Context, list *networks, rt *libcni.RuntimeConf) error {
			err := n.cni.DelNetworkList(ctx, list, rt)
			if err == nil {
				p.detach(list.Name, rt.IfName)
			}
			return err
		})
	if err != nil {
		return fmt.Errorf("DEL %s: %w", p, err)
	}
	return nil
}

// CHECK checks p's attachment to the network of conflist.
func (n *Node) CHECK(ctx context.Context, conflist []byte, p *Pod, edits ...Edit) error {
	err := n.call(ctx, conflist, p, edits,
		func(ctx context.Context, list *networks, rt *libcni.RuntimeConf) error {
			return n.cni.CheckNetworkList(ctx, list, rt)
		})
	if err != nil {
		return fmt.Errorf("CHECK %s: %w", p, err)
	}
	return nil
}

// GC passes the list of valid attachments to the plugins. Nil args send no list at all, as cnitool does.
func (n *Node) GC(ctx context.Context, conflist []byte, args *libcni.GCArgs) error {
	return n.call(ctx, conflist, nil, nil,
		func(ctx context.Context, list *networks, _ *libcni.RuntimeConf) error {
			return n.cni.GCNetworkList(ctx, list, args)
		})
}

// STATUS asks the plugins whether they are ready for ADD.
func (n *Node) STATUS(ctx context.Context, conflist []byte) error {
	return n.call(ctx, conflist, nil, nil,
		func(ctx context.Context, list *networks, _ *libcni.RuntimeConf) error {
			return n.cni.GetStatusNetworkList(ctx, list)
		})
}

// call runs f in the node's network namespace, where plugins expect to be.
func (n *Node) call(ctx context.Context, conflist []byte, p *Pod, edits []Edit,
	f func(context.Context, *networks, *libcni.RuntimeConf) error,
) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	list, err := libcni.NetworkConfFromBytes(conflist)
	if err != nil {
		return fmt.Errorf("parse conflist: %w", err)
	}
	var rt *libcni.RuntimeConf
	if p != nil {
		rt = p.runtimeConf(edits)
	}
	return inNetNS(n.netns, func() error { return f(ctx, list, rt) })
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, cniTimeout)
}

// runtimeConf is the runtime configuration that containerd would pass to the plugins of p.
func (p *Pod) runtimeConf(edits []Edit) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: p.spec.ContainerID,
		NetNS:       p.netns,
		IfName:      p.spec.IfName,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", p.spec.Namespace},
			{"K8S_POD_NAME", p.spec.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.spec.ContainerID},
			{"K8S_POD_UID", p.spec.UID},
		},
		CapabilityArgs: map[string]any{},
	}
	if !p.spec.NoCgroupPath {
		rt.CapabilityArgs["cgroupPath"] = p.relCgroup
	}
	if p.spec.Annotations != nil {
		rt.CapabilityArgs["io.kubernetes.cri.pod-annotations"] = p.spec.Annotations
	}
	if p.spec.PortMappings != nil {
		rt.CapabilityArgs["portMappings"] = p.spec.PortMappings
	}
	for _, edit := range edits {
		edit(rt)
	}
	return rt
}

// Plugin runs one plugin directly, in the node's network namespace, with conf on its standard input. CNI_PATH
// is added to env if it is missing. Tests use it for calls that no runtime should make. The error is the
// *types.Error that the plugin printed, if it did.
func (n *Node) Plugin(ctx context.Context, name string, env []string,
	conf []byte) (stdout []byte, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	env = append([]string{"CNI_PATH=" + n.bin, "PATH=" + os.Getenv("PATH")}, env...)
	err = inNetNS(n.netns, func() (err error) {
		stdout, err = n.exec.ExecPlugin(ctx, filepath.Join(n.bin, name), conf, env)
		return err
	})
	return stdout, err
}

// runtimeExec runs plugins in a cgroup of the runtime. This process may be in a pod's cgroup at that moment,
// and a plugin must not start there.
type runtimeExec struct {
	version.PluginDecoder
	cgroup string
	here   bool // run plugins in this process's cgroup instead
	ran    func(plugin, verb string, took time.Duration)
	log    io.Writer
}

var _ invoke.Exec = (*runtimeExec)(nil)

// ExecPlugin must be called on a thread that is in the node's network namespace.
func (e *runtimeExec) ExecPlugin(ctx context.Context, path string, conf []byte,
	env []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, bytes.NewReader(conf), &stdout, &stderr
	if !e.here {
		dir, err := os.Open(e.cgroup)
		if err != nil {
			return nil, fmt.Errorf("open cgroup: %w", err)
		}
		defer dir.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	cmd.WaitDelay = 5 * time.Second // for children that hold its output open
	start := time.Now()
	err := cmd.Run()
	if e.ran != nil {
		e.ran(filepath.Base(path), verbOf(env), time.Since(start))
	}
	_, _ = e.log.Write(stderr.Bytes())
	if err == nil {
		return stdout.Bytes(), nil
	}
	told := new(types.Error)
	if json.Unmarshal(stdout.Bytes(), told) == nil && told.Code != 0 {
		return stdout.Bytes(), told
	}
	return stdout.Bytes(), fmt.Errorf("run %s: %w: %s", path, err, strings.TrimSpace(stderr.String()))
}

// verbOf is the last value of CNI_COMMAND, as for the plugin.
func verbOf(env []string) (verb string) {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "CNI_COMMAND="); ok {
			verb = value
		}
	}
	return verb
}

// FindInPath finds a plugin in the path as every runtime does.
func (*runtimeExec) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}
