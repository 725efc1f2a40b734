// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/sys/unix"
)

// obstacle keeps a container from being accelerated.
type obstacle struct {
	name  string
	given func(w *world, p *lab.Pod) (binary string, change keys) // creates it; "" is the ordinary binary
	why   decline.Reason
	texts []string // in the log, and in the error with required
	told  bool     // whether there is state in which the reason can be recorded
}

func obstacles() []obstacle {
	return []obstacle{
		{"64 programs on the cgroup", func(w *world, p *lab.Pod) (string, keys) {
			w.mustAdd(w.pod(), nil) // the reason can be recorded only if something is loaded
			bpftest.Crowd(w, p.CgroupPath(), 64)
			return "", nil
		}, decline.TooManyPrograms, []string{"as many sock_ops programs as the kernel allows",
			"bpftool cgroup show"}, true},
		{"a program on the parent that admits no other", func(w *world, p *lab.Pod) (string, keys) {
			w.mustAdd(w.podAside(), nil)
			bpftest.AttachAlone(w, bpftest.SockOps(w), filepath.Dir(p.CgroupPath()), 0)
			return "", nil
		}, decline.ExclusiveProgram, []string{"admits no other", "BPF_F_ALLOW_MULTI"}, true},
		{"a configured cgroup that is not there", func(w *world, _ *lab.Pod) (string, keys) {
			w.mustAdd(w.pod(), nil)
			return "", keys{"cgroupPath": "/sockmap-there-is-none"}
		}, decline.CgroupPath, []string{"/sockmap-there-is-none", "correct it"}, true},
		{"a state directory that is not on a bpffs", func(w *world, _ *lab.Pod) (string, keys) {
			return "", keys{"bpffsPath": "/run/sockmap-there-is-no-bpffs"}
		}, decline.BPFFS, []string{"no bpffs at /run", "mount -t bpf"}, false},
		{"state of a newer version", func(w *world, _ *lab.Pod) (string, keys) {
			mkdir(w, w.node.BPFFS(), fmt.Sprintf("v%d", datapath.ABI+1))
			return "", nil
		}, decline.ForeignState, []string{
			"pinned state", fmt.Sprintf("v%d", datapath.ABI+1), fmt.Sprintf("v%d", datapath.ABI),
			"sockmapctl unload --force",
		}, false},
		{"damaged state", func(w *world, _ *lab.Pod) (string, keys) {
			w.mustAdd(w.pod(), nil)
			if err := os.Remove(filepath.Join(w.node.BPFFS(), fmt.Sprintf("v%d", datapath.ABI),
				"config")); err != nil {
				w.Fatal(err)
			}
			return "", nil
		}, decline.ForeignState, []string{"config is missing", "sockmapctl unload --force"}, false},
		{"a kernel without BTF", func(w *world, _ *lab.Pod) (string, keys) {
			return inPrivateMounts(w, "mount -t tmpfs none /sys/kernel/btf"), nil
		}, decline.Kernel, []string{"kernel not supported", "CONFIG_DEBUG_INFO_BTF"}, false},
		{"no right to use BPF", func(w *world, _ *lab.Pod) (string, keys) {
			return withoutBPF(w), nil
		}, decline.Permission, []string{"operation not permitted"}, false},
	}
}

func TestObstaclesToAccelerationDoNotFailAdd(t *testing.T) {
	for _, o := range obstacles() {
		t.Run(o.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.pod()
			binary, change := o.given(w, p)
			a := w.runWith(binary, "ADD", p, change)
			if a.err != nil || a.stdout != compact(prevResult) {
				t.Fatalf("ADD: %v, %q", a.err, a.stdout)
			}
			expectTexts(t, "the log", a.stderr, append(o.texts, "not accelerated")...)
			r, ok := w.recordOf(p, o.told)
			if ok && (r.Reason != o.why || r.Declined == "" || !strings.Contains(a.stderr, r.Declined[:20])) {
				t.Errorf("the record lacks the reason: %+v", r)
			}
			if a := w.runWith(binary, "CHECK", p, change); a.err != nil {
				t.Errorf("CHECK: %v", a.err)
			}
			if a := w.runWith(binary, "DEL", p, change); a.err != nil {
				t.Errorf("DEL: %v", a.err)
			}
		})
	}
}

func TestWithRequiredTheReasonIsAnError(t *testing.T) {
	for _, o := range obstacles() {
		t.Run(o.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.pod()
			binary, change := o.given(w, p)
			if change == nil {
				change = keys{}
			}
			change["required"] = true
			expectCode(t, w.runWith(binary, "ADD", p, change), o.why.Code(), o.texts...)
			if a := w.runWith(binary, "DEL", p, change); a.err != nil {
				t.Errorf("DEL: %v", a.err)
			}
			if o.told {
				w.recordOf(p, false)
			}
		})
	}
}

func (w *world) runWith(binary, verb string, p *lab.Pod, change keys) answer {
	w.Helper()
	if binary == "" {
		return run(w.TB, env(verb, p), w.conf(p, change))
	}
	return runBinary(w.TB, binary, env(verb, p), w.conf(p, change))
}

// The other obstacles cannot be created from outside of the process.

// inProcess makes an ADD with a handler in this process.
func (w *world) inProcess(h *handler, p *lab.Pod, change keys) (stdout, stderr string, err error) {
	w.Helper()
	var out, log bytes.Buffer
	h.stdout, h.stderr = &out, &log
	args := &skel.CmdArgs{ContainerID: p.ContainerID(), Netns: p.NetNS(), IfName: "eth0",
		StdinData: w.conf(p, change)}
	if err = h.add(args); err == nil {
		out.Write(h.result)
	}
	return out.String(), log.String(), err
}

func TestAddDoesNotAccelerateIfTheLockIsHeld(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	w.mustAdd(w.pod(), nil)
	flock(t, w.node.BPFFS())
	h := &handler{lockTimeout: 20 * time.Millisecond}
	stdout, stderr, err := w.inProcess(h, p, nil)
	if err != nil || stdout != compact(prevResult) {
		t.Errorf("ADD: %v, %q", err, stdout)
	}
	expectTexts(t, "the log", stderr, "not accelerated", "in use", fmt.Sprintf("process %d", os.Getpid()))
	_, _, err = w.inProcess(h, p, keys{"required": true})
	var told *types.Error
	if !errors.As(err, &told) || told.Code != types.ErrTryAgainLater {
		t.Errorf("ADD with required: %v, want code %d", err, types.ErrTryAgainLater)
	}
	if err := h.del(&skel.CmdArgs{ContainerID: p.ContainerID(), IfName: "eth0",
		StdinData: w.conf(p, nil)}); err != nil {
		t.Errorf("DEL: %v", err)
	}
}

func TestNoCgroup2AndNoRightToMountIt(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	h := &handler{step: func(step string) error {
		if step == "mount cgroup2" {
			return unix.EPERM
		}
		return nil
	}}
	var stdout, stderr string
	var err error
	withoutCgroup2(t, func() { stdout, stderr, err = w.inProcess(h, p, nil) })
	if err != nil || stdout != compact(prevResult) {
		t.Errorf("ADD: %v, %q", err, stdout)
	}
	expectTexts(t, "the log", stderr, "not accelerated", "operation not permitted")
	withoutCgroup2(t, func() { _, _, err = w.inProcess(h, p, keys{"required": true}) })
	if err == nil {
		t.Error("ADD with required succeeds")
	}
}

// withoutCgroup2 runs f on a thread in a mount namespace that has no cgroup2.
func withoutCgroup2(t *testing.T, f func()) {
	t.Helper()
	err := onDoomedThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		mounts, err := os.ReadFile("/proc/thread-self/mounts")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(mounts)) {
			if w := strings.Fields(line); w[2] == "cgroup2" {
				if err := unix.Unmount(w[1], unix.MNT_DETACH); err != nil {
					return err
				}
			}
		}
		f()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// onDoomedThread runs f on a thread that ends with it, so f may change the thread.
func onDoomedThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		// The main thread cannot end. While this goroutine keeps it, another goroutine gets another thread.
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onDoomedThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

// withoutBPF is the plugin without the capabilities for bpf(2) and for entering namespaces.
func withoutBPF(w *world) string {
	w.Helper()
	return script(w, "exec /usr/bin/setpriv --bounding-set=-bpf,-sys_admin %s")
}

// podAside is a pod whose cgroup shares no parent with other pods' except that of the node.
func (w *world) podAside() *lab.Pod {
	w.Helper()
	return labtest.NewPod(w.TB, w.node, lab.PodSpec{Cgroup: filepath.Base(w.node.CgroupPath()) + "/aside/pod"})
}

// recordOf expects an attachment or none.
func (w *world) recordOf(p *lab.Pod, want bool) (endpoint.Attachment, bool) {
	w.Helper()
	n := endpoint.Node{Dir: w.node.BPFFS()}
	list, err := n.Attachments(context.Background())
	if err != nil && want {
		w.Fatal(err)
	}
	for _, r := range list {
		if r.ContainerID == p.ContainerID() {
			if !want {
				w.Errorf("there is a record: %+v", r)
			}
			return r, true
		}
	}
	if want {
		w.Error("there is no record")
	}
	return endpoint.Attachment{}, false
}
