// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// scenarios arrange mounts in their own mount namespace, and call FindMount. They get an empty directory, and
// the name of a cgroup from the root.
var scenarios = map[string]func(dir, cgroup string) (outcome, error){
	"unified": func(string, string) (outcome, error) {
		return look(bare(), mount("cgroup2", "/sys/fs/cgroup"))
	},
	"hybrid": func(string, string) (outcome, error) {
		return look(bare(), mount("tmpfs", "/sys/fs/cgroup"), mount("cgroup2", "/sys/fs/cgroup/unified"))
	},
	"odd place": func(dir, _ string) (outcome, error) {
		return look(bare(), mount("cgroup2", dir+"/"+oddName))
	},
	"part before whole": func(dir, cgroup string) (outcome, error) {
		return look(bare(), mountPart(dir, cgroup), mount("cgroup2", dir+"/whole"))
	},
	"part only": func(dir, cgroup string) (outcome, error) {
		return look(bare(), mountPart(dir, cgroup))
	},
	"covered": func(dir, _ string) (outcome, error) {
		return look(bare(), mount("cgroup2", dir+"/place"), mount("tmpfs", dir+"/place"))
	},
	"part on top of whole": func(dir, cgroup string) (outcome, error) {
		place := dir + "/part"
		out, err := look(bare(), mount("cgroup2", place), mountPart(dir, cgroup))
		if err == nil {
			out.Found.Path, err = out.Mount.rootName()
		}
		return out, err
	},
	"none":              func(string, string) (outcome, error) { return look(bare()) },
	"private":           privateMount,
	"private at once":   privateMountAtOnce,
	"private, no right": privateMountWithoutRights,
	"own root":          ownRoot,
}

// oddName contains everything that the kernel escapes in mountinfo, and text like its separator.
const oddName = "an odd\tplace - with\na \\040 and a #"

// look calls FindMount if the setup has worked.
func look(setup ...error) (outcome, error) {
	if err := errors.Join(setup...); err != nil {
		return outcome{}, fmt.Errorf("set up: %w", err)
	}
	m, err := FindMount()
	return outcome{Mount: m}, err
}

// bare removes all cgroup mounts from this mount namespace.
func bare() error {
	mounts, err := cgroup2Mounts()
	if err != nil {
		return err
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", mounts[i].Mountpoint, err)
		}
	}
	// Cover whatever the host has there by an empty one.
	return unix.Mount("none", "/sys/fs/cgroup", "tmpfs", 0, "")
}

func mount(fstype, dir string) error {
	return errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("none", dir, fstype, 0, ""))
}

func bind(from, to string) error {
	return errors.Join(os.MkdirAll(to, 0o755), unix.Mount(from, to, "", unix.MS_BIND, ""))
}

// mountPart mounts a part of the hierarchy on dir/part.
func mountPart(dir, cgroup string) error {
	whole := dir + "/for a moment"
	return errors.Join(mount("cgroup2", whole), bind(whole+cgroup, dir+"/part"), unix.Unmount(whole, 0))
}

func TestFindMount(t *testing.T) {
	for _, c := range []struct{ scenario, want, err string }{
		{"unified", "/sys/fs/cgroup", ""},
		{"hybrid", "/sys/fs/cgroup/unified", ""},
		{"odd place", "DIR/" + oddName, ""},
		{"part before whole", "DIR/whole", ""},
		{"part only", "DIR/part", ""},
		{"covered", "", ErrNoCgroup2.Error()},
		{"none", "", ErrNoCgroup2.Error()},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			got, dir := runScenario(t, c.scenario)
			want := Mount{Path: strings.Replace(c.want, "DIR", dir, 1)}
			if got.Err != c.err || got.Mount != want {
				t.Errorf("got %+v, %q; want %+v, %q", got.Mount, got.Err, want, c.err)
			}
		})
	}
}

func TestCgroupThatAMountShows(t *testing.T) {
	// Two mounts on one place; only the upper one is visible.
	got, _ := runScenario(t, "part on top of whole")
	if got.Err != "" || !strings.HasSuffix(got.Found.Path, "/part") {
		t.Errorf("got %q, %s; want the part", got.Found.Path, got.Err)
	}
}

// ownRoot makes a cgroup in a mount namespace without the hierarchy, and reports the ID of the cgroup that it
// is in.
func ownRoot(string, string) (out outcome, err error) {
	if err := bare(); err != nil {
		return out, fmt.Errorf("set up: %w", err)
	}
	root, err := OpenOwnRoot()
	if err != nil {
		return out, err
	}
	defer root.Close()
	made, err := os.MkdirTemp(fmt.Sprintf("/proc/self/fd/%d", root.Fd()), "made-")
	if err != nil {
		return out, err
	}
	out.Found.ID, err = check(int(root.Fd()))
	return out, errors.Join(err, os.Remove(made))
}

func TestContainersOwnPartOfTheHierarchy(t *testing.T) {
	child := filepath.Join(newTree(t, "child").Path, "child")
	got := task{Scenario: "own root", NewCgroupNS: true}.run(t, child)
	if got.Err != "" || got.Found.ID != idOf(t, child) {
		t.Errorf("got cgroup %d, %q; want %d, where the namespace begins", got.Found.ID, got.Err, idOf(t, child))
	}
	// In the initial namespace, mounting would change the host's mount options.
	if got := (task{Scenario: "own root"}).run(t, child); inInitialNamespace() &&
		got.Err != ErrInitialNamespace.Error() {
		t.Errorf("outside of containers: %q, want %q", got.Err, ErrInitialNamespace)
	}
}

func runScenario(t *testing.T, name string) (outcome, string) {
	t.Helper()
	m, dir := newTree(t, "part", "child"), t.TempDir()
	root, err := m.rootName()
	if err != nil {
		t.Fatal(err)
	}
	job := task{Scenario: name, Mount: Mount{Path: dir}, Request: Request{Runtime: root + "/part"}}
	return job.run(t, filepath.Join(m.Path, "child")), dir
}

// privateMount tests the life of a private mount on a host without any.
func privateMount(dir, _ string) (outcome, error) {
	if err := bare(); err != nil {
		return outcome{}, fmt.Errorf("set up: %w", err)
	}
	place := dir + "/run/cgroup"
	first, err := MountPrivate(place)
	if err != nil {
		return outcome{}, err
	}
	again, err := MountPrivate(place)
	if err != nil {
		return outcome{}, fmt.Errorf("second time: %w", err)
	}
	seen, err := FindMount()
	if err != nil {
		return outcome{}, err
	}
	mounts, err := cgroup2Mounts()
	if err != nil || again != first || seen != first || len(mounts) != 1 {
		return outcome{}, fmt.Errorf("mounts %v, %v; first %v, again %v, found %v", mounts, err, first, again, seen)
	}
	// On such a host all processes are in the root.
	found, err := Find(first, Request{Runtime: "/kubepods/pod1", PodUID: uid})
	if err != nil {
		return outcome{}, err
	}
	for range 2 { // removing it twice is no error
		if err := first.Unmount(); err != nil {
			return outcome{}, err
		}
	}
	if _, err := os.Stat(place); !os.IsNotExist(err) {
		return outcome{}, fmt.Errorf("mount point is still there: %v", err)
	}
	_, err = FindMount()
	return outcome{Mount: first, Found: found}, err
}

func TestPrivateMount(t *testing.T) {
	got, dir := runScenario(t, "private")
	want := Mount{Path: dir + "/run/cgroup", Private: true}
	if got.Mount != want || got.Err != ErrNoCgroup2.Error() {
		t.Errorf("got %+v, %q; want %+v, and none at last", got.Mount, got.Err, want)
	}
	if !got.Found.Root || got.Found.Path != want.Path {
		t.Errorf("found %+v there, want the root", got.Found)
	}
}

func privateMountAtOnce(dir, _ string) (outcome, error) {
	if err := bare(); err != nil {
		return outcome{}, fmt.Errorf("set up: %w", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() { _, errs[i] = MountPrivate(dir + "/cgroup") })
	}
	wg.Wait()
	mounts, err := cgroup2Mounts()
	if err == nil && len(mounts) != 1 {
		err = fmt.Errorf("%d mounts on top of each other", len(mounts))
	}
	return outcome{}, errors.Join(append(errs, err)...)
}

func TestPrivateMountByManyAtOnce(t *testing.T) {
	if got, _ := runScenario(t, "private at once"); got.Err != "" {
		t.Error(got.Err)
	}
}

func privateMountWithoutRights(dir, _ string) (outcome, error) {
	runtime.LockOSThread() // capabilities belong to threads
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := errors.Join(bare(), unix.Capset(&hdr, &none[0])); err != nil {
		return outcome{}, fmt.Errorf("set up: %w", err)
	}
	m, err := MountPrivate(dir + "/cgroup")
	return outcome{Mount: m}, err
}

func TestPrivateMountWithoutRights(t *testing.T) {
	got, dir := runScenario(t, "private, no right")
	for _, want := range []string{dir + "/cgroup", "not permitted", "run as root"} {
		if !strings.Contains(got.Err, want) {
			t.Errorf("error %q does not contain %q", got.Err, want)
		}
	}
}

func TestPrivateMountRefusesFilesAndLinks(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		if m, err := MountPrivate(path); !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), path) {
			t.Errorf("MountPrivate(%s) = %+v, %v; want ENOTDIR", path, m, err)
			m.Unmount()
		}
	}
}

func TestPrivateMountNarrowsTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	m, err := MountPrivate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(m.Path, 0); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700", st.Mode(), err)
	}
}

func TestUnmountLeavesForeignMounts(t *testing.T) {
	m := realMount(t)
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	if !isCgroup2(m.Path) {
		t.Fatal("the host has lost its cgroup2")
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		dir, path, rel string
		ok             bool
	}{
		{"/", "/", ".", true},
		{"/", "/a/b", "a/b", true},
		{"/a", "/a", ".", true},
		{"/a", "/a/b", "b", true},
		{"/a", "/ab", "", false},
		{"/a/b", "/a", "", false},
		{"/..", "/../a", "a", true},
		{"/..", "/a", "", false},
	} {
		if rel, ok := below(c.dir, c.path); ok != c.ok || ok && rel != c.rel {
			t.Errorf("below(%q, %q) = %q, %v", c.dir, c.path, rel, ok)
		}
	}
}

func BenchmarkFindMount(b *testing.B) {
	for b.Loop() {
		if _, err := FindMount(); err != nil {
			b.Fatal(err)
		}
	}
}
