// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/admit"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// delLockTimeout is short: DEL delays the removal of the whole network, a later ADD reaps what it leaves, and
// a process that has held the lock for this long will not release it soon. STATUS must not hang either.
const delLockTimeout = 3 * time.Second

// handler handles one call.
type handler struct {
	stdout, stderr io.Writer

	probe datapath.Probe // nil in tests that are not about hazards

	// For tests, see endpoint.Node.
	step        func(string) error
	lockTimeout time.Duration

	cniVersion string // of the configuration, once it is read
	result     []byte // of an ADD that succeeds; finish writes it

	// For recordCall.
	began      time.Time
	dir        string       // state directory; empty: nothing is recorded
	suppressed *types.Error // the error that is withheld from the runtime
}

func (h *handler) funcs() skel.CNIFuncs {
	return skel.CNIFuncs{Add: h.add, Del: h.del, Check: h.check, GC: h.gc, Status: h.status}
}

// newCall returns what all verbs need.
func (h *handler) newCall(conf *cniconf.Conf, args *skel.CmdArgs) admit.Call {
	h.dir = conf.BPFFSPath
	log := h.logger(conf, args)
	logWarnings(log, "configuration", conf.Warnings)
	return admit.Call{Conf: conf, Log: log, Explain: explainError, Node: &endpoint.Node{
		Dir: conf.BPFFSPath, Settings: admit.Settings(conf, h.probe), Log: log, LockTimeout: h.lockTimeout,
		Step: h.step,
	}}
}

// parse reads a configuration for verbs that act on it. Wrong values are errors.
func (h *handler) parse(args *skel.CmdArgs) (*cniconf.Conf, error) {
	conf, err := cniconf.Parse(args.StdinData)
	if err != nil {
		if readable, _ := cniconf.ParseLenient(args.StdinData); readable != nil {
			h.dir = readable.BPFFSPath
		}
		return nil, errorWithCode(err)
	}
	h.cniVersion = cmp.Or(conf.CNIVersion, h.cniVersion)
	return conf, nil
}

// parseLenient reads a configuration for verbs that act on what an earlier one made. Wrong values are
// warnings.
func (h *handler) parseLenient(args *skel.CmdArgs) *cniconf.Conf {
	// It cannot fail: skel has decoded the same bytes before.
	conf, err := cniconf.ParseLenient(args.StdinData)
	if err != nil {
		conf.Warnings = append(conf.Warnings, err.Error())
	}
	h.cniVersion = cmp.Or(conf.CNIVersion, h.cniVersion)
	return conf
}

func sandboxOf(conf *cniconf.Conf, args *skel.CmdArgs) (endpoint.Sandbox, []string) {
	pod, warnings := cniconf.ParseArgs(args.Args)
	return endpoint.Sandbox{
		Network: conf.Name, ContainerID: args.ContainerID, IfName: args.IfName, NetNSPath: args.Netns,
		PodNamespace: pod.PodNamespace, PodName: pod.PodName, PodUID: pod.PodUID,
	}, warnings
}

func (h *handler) add(args *skel.CmdArgs) error {
	conf, err := h.parse(args)
	if err != nil {
		return err
	}
	if conf.PrevResult == nil {
		return errorWithCode(errNotChained)
	}
	// Before anything else, even the log file: skel looks only after the handler has finished. Node.Add
	// checks it once more, as it must never register the host's namespace, whoever calls it.
	if err := endpoint.CheckNetNS(args.Netns); errors.Is(err, endpoint.ErrNetNS) {
		return errorWithCode(err)
	}
	c := h.newCall(conf, args)
	sb, ignored := sandboxOf(conf, args)
	logWarnings(c.Log, "CNI_ARGS", ignored)
	if err := c.Apply(context.Background(), sb); err != nil {
		if conf.Required || errors.Is(err, endpoint.ErrNetNS) {
			return errorWithCode(err)
		}
		h.suppressed = errorWithCode(err)
		c.Log.Warn("not accelerated", "reason", err)
	}
	h.setResult(conf)
	return nil
}

// del never fails, see finish.
func (h *handler) del(args *skel.CmdArgs) error {
	c := h.newCall(h.parseLenient(args), args)
	c.Node.LockTimeout = cmp.Or(h.lockTimeout, delLockTimeout)
	if err := c.Node.Del(context.Background(), c.Conf.Name, args.ContainerID, args.IfName); err != nil {
		h.suppressed = errorWithCode(err)
		c.Log.Warn("the attachment of this container stays until it is reaped", "error", err)
		return nil
	}
	c.Log.Debug("removed")
	return nil
}

// check checks what ADD made. If ADD was never called for the container, or sockmap was unloaded since,
// nothing is missing. Only with "required" is that an error, and also that it cannot be checked: CRI-O
// removes a pod whose CHECK fails.
func (h *handler) check(args *skel.CmdArgs) error {
	c := h.newCall(h.parseLenient(args), args)
	sb, _ := sandboxOf(c.Conf, args)
	err := c.Node.Check(context.Background(), sb)
	if err == nil {
		return nil
	}
	if c.Conf.Required || errors.Is(err, endpoint.ErrIncomplete) {
		return errorWithCode(err)
	}
	c.Log.Info("nothing to check", "error", err)
	return nil
}

func (h *handler) gc(args *skel.CmdArgs) error {
	c := h.newCall(h.parseLenient(args), args)
	var valid *[]endpoint.ValidAttachment
	if c.Conf.ValidAttachments != nil {
		valid = &[]endpoint.ValidAttachment{}
		for _, a := range *c.Conf.ValidAttachments {
			*valid = append(*valid, endpoint.ValidAttachment(a))
		}
	}
	removed, err := c.Node.GC(context.Background(), c.Conf.Name, valid)
	for _, r := range removed {
		c.Log.Info("removed", "kind", r.Kind, "name", r.Name, "why", r.Why)
	}
	if err != nil {
		return errorWithCode(err)
	}
	return nil
}

// status fails only with "required", because runtimes take the whole node out of service when it fails, and
// without acceleration the node works as it does without this plugin.
func (h *handler) status(args *skel.CmdArgs) error {
	conf, err := h.parse(args)
	if err != nil {
		return err // every ADD will fail with it
	}
	// With enabled: false every ADD succeeds, except for pods that ask for acceleration by annotation.
	if on, _ := conf.Accelerate(); !conf.Required || !on {
		return nil
	}
	c := h.newCall(conf, args)
	c.Node.LockTimeout = cmp.Or(h.lockTimeout, delLockTimeout)
	if err := c.Node.Ready(context.Background(), conf.HazardsAccepted()...); err != nil {
		return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf("containers cannot be accelerated: %v",
			explainError(err)),
			"reason: "+endpoint.ReasonOf(err).String())
	}
	return nil
}
