// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
)

// runtimeOf is a container runtime whose replies the test chooses.
type runtimeOf struct {
	mu    sync.Mutex
	found []pods.Pod
	err   error
	asked int
}

func (r *runtimeOf) answer(found []pods.Pod, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found, r.err = found, err
}

func (r *runtimeOf) find(context.Context) ([]pods.Pod, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return r.found, r.err
}

func (r *runtimeOf) looks() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// asking makes an agent use the runtime.
func (r *runtimeOf) asking(a *Agent) {
	a.PodsEvery = 20 * time.Millisecond
	a.Pods = &adopt.Adopter{
		Find:  r.find,
		Confs: func() ([]*cniconf.Conf, error) { return []*cniconf.Conf{a.Installer.Entry.Conf}, nil },
		Node:  func(*cniconf.Conf) *endpoint.Node { return &endpoint.Node{Dir: a.Node.Dir, NeverLoad: true} },
		Log:   a.Log,
	}
}

const (
	noHostPods  = `sockmap_pods{reason="host-network",state="left-out"} 0`
	twoHostPods = `sockmap_pods{reason="host-network",state="left-out"} 2`
	neverLooked = "sockmap_agent_pods_looked_timestamp_seconds 0"
)

func (r *running) shows(t *testing.T, line string) bool {
	t.Helper()
	code, text := r.get(t, "/metrics")
	return code == http.StatusOK && strings.Contains(text, line+"\n")
}

// If the runtime does not reply, the last result stays, its age is exported, and the reason is logged once.
func TestRuntimeWithoutReplyIsLoggedOnce(t *testing.T) {
	p, runtime := newPlace(t), &runtimeOf{}
	p.write(file, list)
	runtime.answer(nil, errors.New("nobody listens at the socket"))
	r := p.start(runtime.asking)
	eventually(t, "it is still ready", func() bool { return r.ready(t) })
	eventually(t, "it reports that it never saw the pods", func() bool { return r.shows(t, neverLooked) })
	if r.shows(t, noHostPods) {
		t.Error("it counts pods that it never saw")
	}
	runtime.answer([]pods.Pod{
		{ID: "a", Name: "a", HostNetwork: true, From: pods.FromCRI},
		{ID: "b", Name: "b", HostNetwork: true, From: pods.FromCRI},
		{ID: "c", NetNS: "/nowhere", From: pods.FromProcesses},
	}, nil)
	eventually(t, "both are counted", func() bool { return r.shows(t, twoHostPods) })
	if r.shows(t, neverLooked) {
		t.Error("it says that it never looked")
	}
	runtime.answer(nil, errors.New("it hangs"))
	const lost = "not all pods of this node are seen, and running ones may not be adopted"
	eventually(t, "the loss is logged", func() bool { return len(r.log.Records(t, lost)) == 2 })
	before := runtime.looks()
	eventually(t, "it has looked more often, and each time might have logged",
		func() bool { return runtime.looks() > before+5 })
	if n := len(r.log.Records(t, lost)); n != 2 {
		t.Errorf("the same loss is logged %d times", n-1)
	}
	if !r.shows(t, twoHostPods) {
		t.Error("what was known is forgotten")
	}
}

// An agent without a source of pods has no metric of them.
func TestWithoutARuntimeThereIsNoMetricOfPods(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	r := p.start()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	if _, text := r.get(t, "/metrics"); strings.Contains(text, "sockmap_pods{") {
		t.Errorf("metrics:\n%s", text)
	}
}
