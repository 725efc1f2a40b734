// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
)

// objects are the documents of one rendering.
type objects struct{ byKind map[string]runtime.Object }

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, monitoringv1.AddToScheme, batchv1.AddToScheme, rbacv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// decode is strict: a field that the API does not have, or that is there twice, fails.
func decode(t *testing.T, documents []string) objects {
	t.Helper()
	s := scheme(t)
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, s, s,
		json.SerializerOptions{Yaml: true, Strict: true})
	o := objects{map[string]runtime.Object{}}
	for _, d := range documents {
		object, kind, err := strict.Decode([]byte(d), nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, d)
		}
		if o.byKind[kind.Kind] != nil {
			t.Fatalf("a second %s", kind.Kind)
		}
		o.byKind[kind.Kind] = object
	}
	return o
}

func (o objects) daemonSet(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	ds, ok := o.byKind["DaemonSet"].(*appsv1.DaemonSet)
	if !ok {
		t.Fatal("no DaemonSet")
	}
	return ds
}

func (o objects) agent(t *testing.T) corev1.Container {
	t.Helper()
	return o.daemonSet(t).Spec.Template.Spec.Containers[0]
}

// admissible checks rules of the API server that are not in its types, and promises of this project for every
// rendering.
func admissible(t *testing.T, o objects) {
	t.Helper()
	ds := o.daemonSet(t)
	pod := ds.Spec.Template.Spec
	for k, v := range ds.Spec.Selector.MatchLabels {
		if ds.Spec.Template.Labels[k] != v {
			t.Errorf("the selector's %s=%s is not a label of the pods", k, v)
		}
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		// Except for the token that agent.liveAnnotations needs, and no other setting may have.
		if v.Projected != nil && len(v.Projected.Sources) == 1 &&
			v.Projected.Sources[0].ServiceAccountToken != nil {
			volumes[v.Name] = true
			continue
		}
		if v.HostPath == nil || !strings.HasPrefix(v.HostPath.Path, "/") {
			t.Errorf("volume %s is no directory of the node", v.Name)
		}
		volumes[v.Name] = true
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, problem := range mountProblems(c, volumes) {
			t.Errorf("container %s: %s", c.Name, problem)
		}
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("the pods get a token")
	}
	if !pod.HostNetwork || pod.HostIPC {
		t.Error("want the node's network, and not its IPC")
	}
	agentIsConfined(t, pod)
	if a := pod.Containers[0]; a.LivenessProbe == nil || a.ReadinessProbe == nil || a.StartupProbe == nil ||
		a.Resources.Requests == nil {
		t.Error("probes or requests are missing")
	}
}

func agentIsConfined(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	s := pod.Containers[0].SecurityContext
	if s == nil || *s.Privileged || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem {
		t.Fatalf("the agent is not confined: %+v", s)
	}
	if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("capabilities dropped: %v", s.Capabilities.Drop)
	}
	base := []corev1.Capability{"NET_ADMIN", "SYS_ADMIN", "DAC_READ_SEARCH"}
	if !slices.Equal(s.Capabilities.Add[:3], base) {
		t.Errorf("capabilities added: %v, want them to begin with %v", s.Capabilities.Add, base)
	}
	// Namespaces of other processes are useful only if the node's processes are visible, and the other way
	// round.
	if pod.HostPID != slices.Contains(s.Capabilities.Add, "SYS_PTRACE") {
		t.Errorf("hostPID %v with capabilities %v", pod.HostPID, s.Capabilities.Add)
	}
}

func mountProblems(c corev1.Container, volumes map[string]bool) (problems []string) {
	privileged := c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
	at := map[string]bool{}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			problems = append(problems, fmt.Sprintf("volume %s does not exist", m.Name))
		}
		if at[m.MountPath] {
			problems = append(problems, fmt.Sprintf("two mounts on %s", m.MountPath))
		}
		at[m.MountPath] = true
		// pkg/apis/core/validation of Kubernetes: "available only to privileged containers".
		if m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationBidirectional && !privileged {
			problems = append(problems, fmt.Sprintf("%s: Bidirectional without privileges is refused", m.MountPath))
		}
		if strings.HasPrefix("/usr/local/bin/", m.MountPath+"/") {
			problems = append(problems, fmt.Sprintf("%s hides the program itself", m.MountPath))
		}
	}
	return problems
}
