// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// acl lets the user 1234 read and write, in the kernel's format: a version, then a tag, permissions and an ID
// each.
func acl() []byte {
	const (
		userObj, user, groupObj, mask, other = 0x01, 0x02, 0x04, 0x10, 0x20
		nobody                               = ^uint32(0)
	)
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{userObj, 6, nobody}, {user, 6, 1234}, {groupObj, 4, nobody}, {mask, 6, nobody}, {other, 0, nobody}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

func setAttribute(t testing.TB, path, name string, value []byte) {
	t.Helper()
	if err := unix.Setxattr(path, name, value, 0); err != nil {
		t.Fatalf("%s of %s: %v", name, path, err)
	}
}

// attributes are the mode and all attributes of a file.
func attributes(t testing.TB, path string) map[string]string {
	t.Helper()
	names, err := listAttributes(path)
	st, errStat := os.Stat(path)
	if err := errors.Join(err, errStat); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"mode": st.Mode().String()}
	for _, name := range names {
		value, err := readSized(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(value)
	}
	return all
}

func TestAttributesOfAFileAreKept(t *testing.T) {
	for name, file := range map[string]string{"a list": conflists[0].text,
		"a file with one plugin": singles[0].text} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			base := map[string]string{"a list": "10-a.conflist", "a file with one plugin": "10-a.conf"}[name]
			path := p.write(base, file)
			setAttribute(t, path, "user.note", []byte("of the administrator"))
			setAttribute(t, path, "user.empty", nil)
			setAttribute(t, path, "security.selinux", []byte("system_u:object_r:container_file_t:s0\x00"))
			setAttribute(t, path, "trusted.own", []byte("of somebody's file system"))
			setAttribute(t, path, attributeACL, acl())
			before := attributes(t, path)
			want := attributes(t, path)
			delete(want, "trusted.own")
			c := p.install()
			if diff := cmp.Diff(want, attributes(t, c.Path)); diff != "" {
				t.Errorf("with the entry: %s", diff)
			}
			p.uninstall()
			if base == "10-a.conf" {
				want = before // it was moved away and back
			}
			if diff := cmp.Diff(want, attributes(t, path)); diff != "" {
				t.Errorf("after uninstall: %s", diff)
			}
		})
	}
}

// A directory may have a default ACL for new files. The list is older than that.
func TestAFileWithoutACLGetsNoneOfItsDirectory(t *testing.T) {
	p := newPlace(t)
	path := p.write("10-a.conflist", conflists[0].text)
	setAttribute(t, p.ConfDir, "system.posix_acl_default", acl())
	before := attributes(t, path)
	p.install()
	if diff := cmp.Diff(before, attributes(t, path)); diff != "" {
		t.Errorf("with the entry: %s", diff)
	}
}

// User attributes of the list do not apply to another file; its permissions do.
func TestDropInHasTheACLOfTheListAndNotItsUserAttributes(t *testing.T) {
	p := newPlace(t)
	p.DropIn = true
	path := p.write("10-a.conflist", conflists[0].text)
	setAttribute(t, path, "user.note", []byte("x"))
	setAttribute(t, path, attributeACL, acl())
	want := attributes(t, path)
	delete(want, "user.note")
	c := p.install()
	if diff := cmp.Diff(want, attributes(t, c.Path)); diff != "" {
		t.Error(diff)
	}
}

func TestInstallWorksWithoutExtendedAttributes(t *testing.T) {
	p := newPlace(t)
	p.ConfDir = t.TempDir()
	if err := unix.Mount("ramfs", p.ConfDir, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(p.ConfDir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	path := p.write("10-a.conflist", conflists[0].text)
	if err := unix.Setxattr(path, "user.note", []byte("x"), 0); !errors.Is(err, unix.ENOTSUP) {
		t.Fatalf("it has attributes: %v", err)
	}
	if c := p.install(); !c.Changed || c.Path != filepath.Join(p.ConfDir, "10-a.conflist") {
		t.Errorf("got %+v", c)
	}
	p.uninstall()
}
