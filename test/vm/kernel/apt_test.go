// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestStanzasHaveVersionsAndDependencies(t *testing.T) {
	got := parseStanzas(`Package: linux-image-cloud
Version: 7.3.4-1
Depends: linux-image-7.3.4 (= 7.3.4-1), dracut | initramfs-tools (>= 0.120), kmod
Description: a kernel
 Depends: not a field

Package: linux-image-cloud
Version: 6.12-1

`)
	want := []stanza{
		{"linux-image-cloud", "7.3.4-1", []dependency{{"linux-image-7.3.4", "7.3.4-1"}, {"dracut", ""},
			{"kmod", ""}}},
		{"linux-image-cloud", "6.12-1", nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMirrorsAreThoseOfTheMachineUnlessOneIsGiven(t *testing.T) {
	const listed = "http://a.invalid/debian/\nhttp://b.invalid/debian\nhttp://a.invalid/debian-security/\nhttp://c.invalid/node\n"
	own := map[string]string{
		"debian": "http://a.invalid/debian/", "debian-security": "http://a.invalid/debian-security/",
		"node": "http://c.invalid/node",
	}
	if diff := cmp.Diff(own, pickMirrors("", listed)); diff != "" {
		t.Error(diff)
	}
	given := pickMirrors("http://d.invalid/deb", listed)
	if given["debian"] != "http://d.invalid/deb" || given["debian-security"] != own["debian-security"] {
		t.Errorf("given one: %v", given)
	}
	if archiveOf("bookworm-security") != "debian-security" || archiveOf("trixie-backports") != "debian" {
		t.Error("a suite is looked for in the wrong archive")
	}
}

func TestErrorsOfAptDoNotNameTheMirror(t *testing.T) {
	a := &archive{hosts: []string{"mirror.invalid:8080", "mirror.invalid"}}
	text := a.said("E: http://mirror.invalid:8080/debian: could not resolve 'mirror.invalid'\n").Error()
	if strings.Contains(text, "invalid") || !strings.Contains(text, "could not resolve") {
		t.Error(text)
	}
}

func TestNeedNamesWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Need("cpio", "qemu-system-x86_64")
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "recommends cpio qemu-system-x86)") {
		t.Error(err)
	}
	if err := Need("/"); err != nil {
		t.Error(err)
	}
}

func TestIncompleteKernelInTheCacheIsIgnored(t *testing.T) {
	c, w := Cache{t.TempDir()}, Wanted{Name: "6.1", Arch: "amd64"}
	if _, err := c.Cached(w); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty cache: %v", err)
	}
	k := Kernel{Wanted: w, Version: "6.1.9-1", Release: "6.1.0-9-cloud",
		Dir: filepath.Join(c.Dir, "kernels", "6.1", "new-1")}
	write(t, k.Image(), "bootable")
	if err := c.publish(&k); err != nil {
		t.Fatal(err)
	}
	got, err := c.Cached(w)
	if err != nil || got.Release != k.Release || got.Dir != k.Dir {
		t.Errorf("published %+v, cached %+v, %v", k, got, err)
	}
	// Again, as after a fetch that was cut off before its record was written.
	again := Kernel{Wanted: w, Version: "6.1.9-1", Release: "6.1.0-9-cloud",
		Dir: filepath.Join(c.Dir, "kernels", "6.1", "new-2")}
	write(t, again.Image(), "bootable")
	if err := c.publish(&again); err != nil {
		t.Error(err)
	}
	newer := Kernel{Wanted: w, Version: "6.1.10-1", Release: "6.1.0-10-cloud",
		Dir: filepath.Join(c.Dir, "kernels", "6.1", "new-3")}
	write(t, newer.Image(), "bootable")
	if err := c.publish(&newer); err != nil {
		t.Error(err)
	}
	if got, err := c.Cached(w); err != nil || got.Version != newer.Version {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := os.Stat(again.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the older kernel is still there: %v", err)
	}
}
