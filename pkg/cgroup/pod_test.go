// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPodInEveryLayout(t *testing.T) {
	const static = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ name, uid, cgroup string }{
		{"systemd, burstable", uid, systemdPod},
		{"systemd, best effort", uid, "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + unitUID +
			".slice"},
		{"systemd, guaranteed", uid, "kubepods.slice/kubepods-pod" + unitUID + ".slice"},
		{"cgroupfs, burstable", uid, cgroupfsPod},
		{"cgroupfs, best effort", uid, "kubepods/besteffort/pod" + uid},
		{"cgroupfs, guaranteed", uid, "kubepods/pod" + uid},
		{"kind, systemd, burstable", uid, kindPod},
		{"kind, systemd, guaranteed", uid, "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + unitUID +
			".slice"},
		{"kind, cgroupfs, best effort", uid, "kubelet/kubepods/besteffort/pod" + uid},
		{"static pod, systemd", static, "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + static +
			".slice"},
		{"static pod, cgroupfs", static, "kubepods/besteffort/pod" + static},
		{"unknown cgroup root, cgroupfs", uid, "custom/root/kubepods/burstable/pod" + uid},
		{"unknown cgroup root, systemd", uid, "my.slice/my-kubepods.slice/my-kubepods-pod" + unitUID + ".slice"},
		{"below a service of a user", uid,
			"user.slice/user-1000.slice/user@1000.service/app.slice/k3s.service/kubepods/pod" + uid},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Containers and other pods must not be mistaken for it.
			m := newTree(t, c.cgroup+"/container", "kubepods/burstable/pod"+otherUID+"/pod"+uid+"x",
				"system.slice/a.service")
			got, err := Find(m, Request{PodUID: c.uid, NetNS: "/run/netns/x"})
			expect(t, m, got, err, c.cgroup, SourcePodUID)
			if len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], "runtimeConfig.cgroupPath: ") {
				t.Errorf("notes %q, want one on runtimeConfig.cgroupPath", got.Notes)
			}
		})
	}
}

func TestPodsThatAreNotFound(t *testing.T) {
	m := newTree(t, "kubepods/pod"+otherUID+"/sub/pod"+uid, "a/xpod"+uid, "b/pod"+uid+"x",
		"c/pod"+unitUID+".slice")
	for _, c := range []struct{ name, uid, why string }{
		{"none given", "", "not given"},
		{"no cgroup, or only one inside of another pod", uid, "in the whole hierarchy"},
		{"slashes", "../pod", "is not a pod UID"},
		{"dots", "..", "is not a pod UID"},
		{"letters that no UID has", "ä", "is not a pod UID"},
		{"pattern", "*", "is not a pod UID"},
		{"zero byte", "a\x00", "is not a pod UID"},
		{"too long", strings.Repeat("a", 65), "is not a pod UID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Find(m, Request{PodUID: c.uid})
			expectRoot(t, m, got, err, SourcePodUID, c.why)
		})
	}
}

func TestWalkIsBounded(t *testing.T) {
	var rels []string
	for i := range 20 {
		rels = append(rels, fmt.Sprintf("d%d/leaf", i))
	}
	m := newTree(t, append(rels, "d19/below/pod"+uid)...)
	tr, err := openTree(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.close)
	soon, past := time.Now().Add(time.Minute), time.Now().Add(-time.Second)
	for _, c := range []struct {
		name  string
		walk  walk
		found bool
	}{
		{"enough of both", walk{tr, podNames(uid), 1000, soon}, true},
		{"too few directories", walk{tr, podNames(uid), 5, soon}, false},
		{"too little time", walk{tr, podNames(uid), 1000, past}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rel, err := c.walk.find()
			if c.found != (err == nil) || c.found != (rel == "d19/below/pod"+uid) {
				t.Errorf("got %q, %v", rel, err)
			}
			if !c.found && !strings.Contains(err.Error(), "gave up") {
				t.Errorf("error %q does not say that the search was cut short", err)
			}
		})
	}
}

func TestIsPod(t *testing.T) {
	for name, want := range map[string]bool{
		"pod" + uid:                                          true,
		"pod0123456789abcdef0123456789abcdef":                true,
		"kubepods-burstable-pod" + unitUID + ".slice":        true,
		"kubepods-pod" + unitUID + ".slice":                  true,
		"kubepods-pod0123456789abcdef0123456789abcdef.slice": true,
		"machine-libpod_pod_abc.slice":                       false,
		"kubepods.slice":                                     false,
		"kubepods":                                           false,
		"pods":                                               false,
		"podman":                                             false,
		"pod" + unitUID:                                      false,
		"pod" + strings.Replace(uid, "-", "0", 1):            false,
		"pod" + strings.Replace(uid, "2", "g", 1):            false,
		"docker-0123456789abcdef0123456789abcdef.scope":      false,
		"pod": false,
		"/":   false,
	} {
		if got := isPod(name); got != want {
			t.Errorf("isPod(%q) = %v", name, got)
		}
	}
}

func BenchmarkFindPodUID(b *testing.B) {
	m := newTree(b, cgroupfsPod)
	for b.Loop() {
		if f, err := Find(m, Request{PodUID: uid}); err != nil || f.Root {
			b.Fatal(f, err)
		}
	}
}
