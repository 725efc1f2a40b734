// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A runtime may have several directories of plugins, and execute none of what is in this one.
func TestAPluginThatTheNodeRefusesToRunIsTakenBack(t *testing.T) {
	for name, c := range map[string]struct {
		refuse func(t *testing.T, dir string) (allow func())
		want   error
		says   string
	}{
		"noexec":   {remountNoexec, unix.EACCES, "is mounted noexec"},
		"a policy": {denyExec, unix.EPERM, "fapolicyd-cli --file add "},
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
				changed, err := p.InstallBinary(t.Context())
				if changed || !errors.Is(err, c.want) || !strings.Contains(err.Error(), p.Binary()) || !strings.Contains(err.Error(), c.says) {
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

// What was installed before the node began to refuse it must be told, too.
func TestAnIdenticalPluginThatCannotBeRunIsTold(t *testing.T) {
	p := newPlace(t)
	p.BinDir = smallDisk(t, "200m")
	mustInstallBinary(p)
	p.copied = [2]identity{} // as another process
	allow := remountNoexec(t, p.BinDir)
	if changed, err := p.InstallBinary(t.Context()); changed || err == nil || !strings.Contains(err.Error(), "is mounted noexec") {
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

// denyExec refuses to execute the files of a directory in the way of fapolicyd.
func denyExec(t *testing.T, dir string) (allow func()) {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		t.Fatalf("fanotify: %v", err)
	}
	events := os.NewFile(uintptr(fd), "fanotify")
	err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM|unix.FAN_EVENT_ON_CHILD, unix.AT_FDCWD, dir)
	if err != nil {
		t.Fatalf("fanotify: mark %s: %v", dir, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		deny(events)
	}()
	allow = func() {
		events.Close() // lets everything pass again
		<-done
	}
	t.Cleanup(allow)
	return allow
}

// deny answers events until they are closed.
func deny(events *os.File) {
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
			answer = binary.NativeEndian.AppendUint32(answer, unix.FAN_DENY)
			events.Write(answer)
			unix.Close(int(event.Fd))
			at += int(event.Event_len)
		}
	}
}

// Both programs may lie in the directory of plugins, where uninstall leaves a stub.
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
		if changed || err == nil || !strings.Contains(err.Error(), p.Source+" is a stub") || !strings.Contains(err.Error(), "--plugin") {
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
