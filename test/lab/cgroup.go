// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// membership guards the cgroup of this process. A process has only one, so there is one lock for all nodes.
// It is held for writing while the process is in a pod's cgroup, and for reading while a socket is made that
// must not belong to a pod's cgroup.
var membership sync.RWMutex

// join moves this process to the cgroup at dir until leave is called. Any goroutine may call leave, once or
// several times. An empty dir means this process's own cgroup.
func join(dir string) (leave func() error, err error) {
	if dir == "" {
		membership.RLock()
		return sync.OnceValue(func() error { membership.RUnlock(); return nil }), nil
	}
	membership.Lock()
	home, err := ownCgroup()
	if err == nil {
		err = move(dir)
	}
	if err != nil {
		membership.Unlock()
		return nil, err
	}
	return sync.OnceValue(func() error {
		defer membership.Unlock()
		return move(home)
	}), nil
}

func move(dir string) error {
	procs := filepath.Join(dir, "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return fmt.Errorf("move this process to a cgroup: %w", err)
	}
	return nil
}

// ownCgroup is the directory of the cgroup2 cgroup that this process is in.
func ownCgroup() (string, error) {
	mount, err := cgroup2Mount()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("read own cgroup: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Join(mount, strings.TrimSuffix(path, "\n")), nil
		}
	}
	return "", errors.New("read own cgroup: it is in no cgroup2 hierarchy")
}

// cgroup2Mount is where the whole cgroup2 hierarchy is mounted.
func cgroup2Mount() (string, error) {
	mounts, err := readMounts()
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.fstype == "cgroup2" && m.root == "/" {
			return m.point, nil
		}
	}
	return "", errors.New("find cgroup2: it is not mounted (mount -t cgroup2 none /sys/fs/cgroup)")
}

type mountEntry struct{ root, point, fstype string }

func readMounts() ([]mountEntry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	var mounts []mountEntry
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 {
			continue
		}
		fstype, _, _ := strings.Cut(after, " ")
		mounts = append(mounts, mountEntry{root: fields[3], point: unescape(fields[4]), fstype: fstype})
	}
	return mounts, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// removeCgroup kills all processes in the cgroup at dir and below, and removes it. It is no error if dir does
// not exist.
func removeCgroup(dir string) error {
	membership.RLock() // this process must not be inside
	defer membership.RUnlock()
	if home, err := ownCgroup(); err != nil {
		return err
	} else if home == dir || strings.HasPrefix(home, dir+"/") {
		return fmt.Errorf("kill cgroup %s: this process is in it", dir)
	}
	err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill cgroup %s: %w", dir, err)
	}
	return removeTree(dir)
}

// removeTree waits until the killed processes are gone.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // removed meanwhile: no error
	})
	if err != nil {
		return fmt.Errorf("list cgroup %s: %w", dir, err)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := removeEmptied(dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

func removeEmptied(dir string) error {
	const patience = 10 * time.Second
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		switch err := unix.Rmdir(dir); {
		case err == nil || err == unix.ENOENT:
			return nil
		case err != unix.EBUSY || time.Since(start) > patience:
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
}
