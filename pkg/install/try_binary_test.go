// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// A runtime may have several directories of plugins, and may be unable to execute anything in this one.
func TestPluginThatTheNodeRefusesToRunIsRemovedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		refuse func(t *testing.T, dir string) (allow func())
		want   error
		says   string
	}{
		"noexec":   {remountNoexec, unix.EACCES, "is mounted noexec"},
		"a policy": {denyAll, unix.EPERM, "fapolicyd-cli --file add "},
	} {
		for _, before := range []string{"nothing", "an older plugin"} {
			t.Run(name+" over "+before, func(t *testing.T) {
				p := newPlace(t)
				p.BinDir = smallDisk(t, "200m")
				p.write("10-a.conflist", conflists[0].text)
				if before != "nothing" {
					mustInstallBinary(p)
					p.Source = otherPlugin(t, p.Source)
				}
				was := tree(t, p.BinDir)
				allow := c.refuse(t, p.BinDir)
				if err := p.TryBinary(t.Context()); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("a try: got %v; want an error with %q", err, c.says)
				} else if again := p.TryBinary(t.Context()); again == nil || again.Error() != err.Error() {
					t.Errorf("the same failure has another text: %v, then %v", err, again)
				}
				changed, err := p.InstallBinary(t.Context())
				if changed || !errors.Is(err, c.want) || !strings.Contains(err.Error(), p.Binary()) ||
					!strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, %v; want an error with %q", changed, err, c.says)
				}
				allow()
				if is := tree(t, p.BinDir); len(is) != len(was) || is[PluginType] != was[PluginType] {
					t.Errorf("left %q, want %q, or another plugin", names(is), names(was))
				}
				if !mustInstallBinary(p) {
					t.Error("where it is allowed to run it is not installed")
				}
				p.expectBinary()
			})
		}
	}
}

// If the node begins to refuse an installed plugin, that must be reported as well.
func TestIdenticalPluginThatCannotRunIsReported(t *testing.T) {
	p := newPlace(t)
	p.BinDir = smallDisk(t, "200m")
	mustInstallBinary(p)
	p.copied = [2]fileID{} // as another process
	allow := remountNoexec(t, p.BinDir)
	if changed, err := p.InstallBinary(t.Context()); changed || err == nil ||
		!strings.Contains(err.Error(), "is mounted noexec") {
		t.Errorf("got %v, %v", changed, err)
	}
	allow()
	if mustInstallBinary(p) {
		t.Error("it was copied again")
	}
	p.expectBinary()
}

func remountNoexec(t *testing.T, dir string) (allow func()) {
	t.Helper()
	remount := func(flags uintptr) {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			t.Fatalf("remount: %v", err)
		}
	}
	remount(unix.MS_NOEXEC)
	return func() { remount(0) }
}

func TestTryBinaryChangesNothing(t *testing.T) {
	p := newPlace(t)
	for _, before := range []string{"nothing", "an older plugin", "the same"} {
		was := tree(t, p.BinDir)
		if err := p.TryBinary(t.Context()); err != nil {
			t.Errorf("over %s: %v", before, err)
		}
		if diff := cmp.Diff(names(was), names(tree(t, p.BinDir))); diff != "" ||
			was[PluginType] != tree(t, p.BinDir)[PluginType] {
			t.Errorf("over %s it changed something: %s", before, diff)
		}
		if before == "nothing" {
			p.Source = otherPlugin(t, p.Source)
			mustInstallBinary(p)
			p.Source = plugin(t)
		} else {
			mustInstallBinary(p)
		}
	}
}

// fapolicyd trusts files by their paths, unless it is configured to compare their content.
func TestTryBinaryPassesAPolicyThatTrustsPaths(t *testing.T) {
	for _, before := range []string{"nothing", "an older plugin"} {
		t.Run("over "+before, func(t *testing.T) {
			p := newPlace(t)
			p.BinDir = smallDisk(t, "200m")
			if before != "nothing" {
				mustInstallBinary(p)
				p.Source = otherPlugin(t, p.Source)
			}
			was := tree(t, p.BinDir)
			denyExec(t, p.BinDir, func(name string) bool { return name != PluginType })
			if err := p.TryBinary(t.Context()); err != nil {
				t.Error(err)
			}
			if is := tree(t, p.BinDir); len(is) != len(was) || is[PluginType] != was[PluginType] {
				t.Errorf("the try left %q, want %q, or another plugin", names(is), names(was))
			}
			if !mustInstallBinary(p) {
				t.Error("it was not installed")
			}
			p.expectBinary()
		})
	}
}

func denyAll(t *testing.T, dir string) (allow func()) {
	t.Helper()
	return denyExec(t, dir, func(string) bool { return true })
}

// denyExec refuses to execute files of a directory as fapolicyd does: those for which refused is true.
func denyExec(t *testing.T, dir string, refused func(name string) bool) (allow func()) {
	t.Helper()
	// This process both starts the program and decides whether it may start. While the Go runtime starts it,
	// no garbage collection can begin, and one that is about to begin would block the decision.
	percent := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK,
		unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		t.Fatalf("fanotify: %v", err)
	}
	events := os.NewFile(uintptr(fd), "fanotify")
	err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM|unix.FAN_EVENT_ON_CHILD,
		unix.AT_FDCWD, dir)
	if err != nil {
		t.Fatalf("fanotify: mark %s: %v", dir, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		deny(events, refused)
	}()
	allow = func() {
		events.Close() // allows everything again
		<-done
	}
	t.Cleanup(allow)
	return allow
}

// deny answers events until they are closed.
func deny(events *os.File, refused func(name string) bool) {
	buffer := make([]byte, 4096)
	for {
		n, err := events.Read(buffer)
		if err != nil {
			return
		}
		const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
		for at := 0; at+size <= n; {
			event := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&buffer[at]))
			answer := binary.NativeEndian.AppendUint32(nil, uint32(event.Fd))
			verdict := uint32(unix.FAN_ALLOW)
			path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", event.Fd))
			if err != nil || refused(filepath.Base(path)) {
				verdict = unix.FAN_DENY
			}
			answer = binary.NativeEndian.AppendUint32(answer, verdict)
			events.Write(answer)
			unix.Close(int(event.Fd))
			at += int(event.Event_len)
		}
	}
}

// Both programs may be in the directory of plugins, where uninstall leaves a stub.
func TestAStubIsNotInstalledAsThePlugin(t *testing.T) {
	p := newPlace(t)
	p.write("10-a.conflist", conflists[0].text)
	mustInstallBinary(p)
	p.Source = p.Binary()
	if mustInstallBinary(p) {
		t.Error("the plugin was copied over itself")
	}
	if err := p.installStub(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		changed, err := p.InstallBinary(t.Context())
		if changed || err == nil || !strings.Contains(err.Error(), p.Source+" is a stub") ||
			!strings.Contains(err.Error(), "--plugin") {
			t.Errorf("%s: got %v, %v", what, changed, err)
		}
	}
	refused("over itself")
	p.Source = filepath.Join(t.TempDir(), "sockmap")
	if err := os.Rename(p.Binary(), p.Source); err != nil {
		t.Fatal(err)
	}
	refused("where there is none")
	if there, err := exists(p.Binary()); there || err != nil {
		t.Errorf("it was installed: %v", err)
	}
	p.Source = plugin(t)
	if !mustInstallBinary(p) {
		t.Error("the plugin was not installed in its place")
	}
	p.expectBinary()
}
