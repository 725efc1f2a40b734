// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sockmap-cni/sockmap-cni/pkg/daemonset"
)

// hooks renders and decodes the hooks.
func hooks(t *testing.T, values map[string]any) ([]*releasev1.Hook, objects) {
	t.Helper()
	all, err := load(t).Hooks("r", "ns", values)
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for _, h := range all {
		documents = append(documents, h.Manifest)
	}
	return all, decode(t, documents)
}

// The hook's account exists before its Job and has only the rights that the Job needs, and nothing of the
// hook remains.
func TestUninstallHookHasOnlyItsRightsAndIsDeleted(t *testing.T) {
	for _, values := range []map[string]any{nil, full} {
		all, o := hooks(t, values)
		if len(all) != 4 {
			t.Fatalf("%d hooks", len(all))
		}
		for _, h := range all {
			if !slices.Equal(h.Events, []releasev1.HookEvent{releasev1.HookPreDelete}) ||
				!slices.Contains(h.DeletePolicies, releasev1.HookSucceeded) ||
				!slices.Contains(h.DeletePolicies, releasev1.HookBeforeHookCreation) {
				t.Errorf("%s: events %v, deleted %v", h.Name, h.Events, h.DeletePolicies)
			}
			if job := h.Kind == "Job"; job != (h.Weight == 0) || h.Weight > 0 {
				t.Errorf("%s %s has the weight %d", h.Kind, h.Name, h.Weight)
			}
		}
		ds := render(t, load(t), "", values).daemonSet(t)
		account := o.byKind["ServiceAccount"].(*corev1.ServiceAccount).Name
		role := o.byKind["Role"].(*rbacv1.Role)
		want := []rbacv1.PolicyRule{{
			APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, ResourceNames: []string{ds.Name},
			Verbs: []string{"get", "patch"},
		}}
		if !reflect.DeepEqual(role.Rules, want) {
			t.Errorf("rights %+v, want %+v", role.Rules, want)
		}
		binding := o.byKind["RoleBinding"].(*rbacv1.RoleBinding)
		if len(binding.Subjects) != 1 || binding.Subjects[0].Name != account || binding.RoleRef.Name != role.Name {
			t.Errorf("the rights go to %+v", binding)
		}
		pod := o.byKind["Job"].(*batchv1.Job).Spec.Template
		wantHookPod(t, pod, account, "ns/"+ds.Name)
		for k, v := range ds.Spec.Selector.MatchLabels {
			if pod.Labels[k] != v {
				return // the DaemonSet does not adopt the Job's pod
			}
		}
		t.Errorf("the DaemonSet selects the hook's pod: %v", pod.Labels)
	}
}

func wantHookPod(t *testing.T, pod corev1.PodTemplateSpec, account, daemonSet string) {
	t.Helper()
	c := pod.Spec.Containers[0]
	if pod.Spec.ServiceAccountName != account || !*pod.Spec.AutomountServiceAccountToken ||
		len(pod.Spec.Volumes) > 0 {
		t.Errorf("the hook's pod: %+v", pod.Spec)
	}
	if s := c.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || *s.AllowPrivilegeEscalation ||
		!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("the hook's container is not confined: %+v", s)
	}
	wantArgs(t, c.Args, "uninstall-nodes", "--daemonset="+daemonSet, "--timeout=4m")
}

func TestUninstallHookCanBeDisabled(t *testing.T) {
	if all, _ := hooks(t, nested("uninstallHook.enabled", false)); len(all) > 0 {
		t.Errorf("%d hooks", len(all))
	}
}

// The hook finds the agent by its container's name, and manifests without Helm have no hook.
func TestUninstallHookFindsTheContainerOfTheAgent(t *testing.T) {
	c := load(t)
	if name := render(t, c, "", nil).agent(t).Name; name != daemonset.Container {
		t.Errorf("the container is called %q, the hook looks for %q", name, daemonset.Container)
	}
	manifests, err := c.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range manifests {
		if strings.Contains(text, "uninstall") {
			t.Errorf("%s has something that uninstalls", name)
		}
	}
}
