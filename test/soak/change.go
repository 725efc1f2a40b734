// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// keys are keys of the plugin's entry.
type keys map[string]any

// policies are the policies between which pods are changed. The first is the one that they begin with.
// Servers listen on ports from 32768 to 60999.
var policies = []keys{
	{},
	{"enabled": false},
	{"peers": "pod"},
	{"peers": "namespace", "ports": keys{"exclude": []string{"32768-46000"}}},
	{"ports": keys{"include": []string{"1-46000"}}},
}

// changer makes the changes to the node that happen on nodes all the time.
type changer struct {
	node    *lab.Node
	pods    []*lab.Pod
	entry   keys
	foreign *foreign
	every   time.Duration
	policy  map[*lab.Pod]int // index in policies; 0 is not kept

	policies, switches, neighbours, rounds atomic.Uint32
}

func (c *changer) sockmap() *endpoint.Node { return &endpoint.Node{Dir: c.node.BPFFS()} }

// run makes changes until ctx ends.
func (c *changer) run(ctx context.Context, rng *rand.Rand) error {
	for ctx.Err() == nil {
		if !sleep(ctx, c.every/2+rand.N(c.every)) {
			break
		}
		if err := c.step(ctx, rng); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (c *changer) step(ctx context.Context, rng *rand.Rand) error {
	switch n := rng.IntN(20); {
	case n < 11:
		return c.changePolicy(ctx, rng)
	case n < 13:
		return c.turnSwitch(ctx, rng)
	case n < 18:
		return c.changeForeign(ctx, rng)
	}
	return c.round(ctx)
}

// changePolicy gives one pod another policy, or the first one again if a quarter of the pods have another.
func (c *changer) changePolicy(ctx context.Context, rng *rand.Rand) error {
	pod, to := c.pods[rng.IntN(len(c.pods))], 1+rng.IntN(len(policies)-1)
	for p := range c.policy {
		if len(c.policy) > len(c.pods)/4 || p == pod {
			pod, to = p, 0
			break
		}
	}
	if to == 0 {
		delete(c.policy, pod)
	} else {
		c.policy[pod] = to
	}
	c.policies.Add(1)
	return c.add(ctx, pod, policies[to])
}

// add calls the plugin like a runtime that repeats an ADD with another configuration.
func (c *changer) add(ctx context.Context, pod *lab.Pod, policy keys) error {
	conf := maps.Clone(c.entry)
	maps.Copy(conf, policy)
	conf["prevResult"] = pod.Result()
	conf["runtimeConfig"] = keys{"cgroupPath": strings.TrimPrefix(pod.CgroupPath(),
		filepath.Dir(c.node.CgroupPath()))}
	stdin, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	s := pod.Spec()
	vars := []string{
		"CNI_COMMAND=ADD", "CNI_CONTAINERID=" + s.ContainerID, "CNI_NETNS=" + pod.NetNS(), "CNI_IFNAME=" + s.IfName,
		fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=%s", s.Namespace,
			s.Name, s.UID),
	}
	if _, err := c.node.Plugin(ctx, "sockmap", vars, stdin); err != nil {
		return fmt.Errorf("ADD %s with %v: %w", pod, policy, err)
	}
	return nil
}

// turnSwitch turns acceleration off for a moment, as `sockmapctl disable` does. Busy or idle sockets then
// leave the sockhash.
func (c *changer) turnSwitch(ctx context.Context, rng *rand.Rand) error {
	c.switches.Add(1)
	_, err := c.sockmap().SetDisabled(ctx, true)
	err = errors.Join(err, c.evict())
	sleep(ctx, time.Duration(100+rng.IntN(1900))*time.Millisecond)
	_, on := c.sockmap().SetDisabled(context.WithoutCancel(ctx), false)
	return errors.Join(err, on)
}

func (c *changer) evict() error {
	d, err := datapath.Open(c.node.BPFFS())
	if err != nil {
		return err
	}
	defer d.Close()
	e, err := d.NewEviction()
	if err != nil {
		return err
	}
	_, err = e.Run()
	return errors.Join(err, e.Close())
}

// changeForeign attaches, detaches or changes the foreign program. An ADD notices it, and from then on its
// changes to flags are undone.
func (c *changer) changeForeign(ctx context.Context, rng *rand.Rand) error {
	c.neighbours.Add(1)
	if changed, err := c.foreign.change(rng); changed || err != nil {
		return err
	}
	if err := c.foreign.attach(); err != nil {
		return err
	}
	for _, pod := range c.pods {
		if c.policy[pod] == 0 {
			return c.add(ctx, pod, policies[0])
		}
	}
	return nil
}

// round does what the agent does periodically.
func (c *changer) round(ctx context.Context) error {
	c.rounds.Add(1)
	removed, err := c.sockmap().Reap(ctx)
	if err == nil && len(removed) > 0 {
		err = fmt.Errorf("reap has removed live attachments: %+v", removed)
	}
	return err
}

// sleep returns false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
