// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

// enterName is the name under which init executes itself to run a program in a Debian root.
const enterName = "enter-root"

// rootDisk is the first disk of the guest, with the image from the host's cache. It is never written to.
const rootDisk = "/dev/vda"

// inRoot changes a command into one whose root is the disk, under a layer in memory that is removed with the
// program. The mounts of init and the files that the host packed are there, too.
func inRoot(cmd *exec.Cmd) {
	cmd.Args = append([]string{enterName, cmd.Dir, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Dir, cmd.Err = "/proc/self/exe", "/", nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
}

// enterRoot returns only an error. words are a directory, a program, and its arguments. It moves the new root
// over the old one, as a distribution's initramfs does, so that it is the root of the program's mount
// namespace, too.
func enterRoot(words []string) error {
	root, err := mountRoot("/mnt")
	if err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Chdir(words[0]); err != nil {
		return fmt.Errorf("enter %s: %w", words[0], err)
	}
	// Shared, as systemd makes it; see mountAll.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost guest\n::1 localhost\n"),
		0o644); err != nil {
		return err
	}
	return unix.Exec(words[1], words[1:], os.Environ())
}

// mountRoot mounts everything that belongs to the new root below dir, and returns its path.
func mountRoot(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := unix.Mount("layer", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return "", fmt.Errorf("mount layer of root: %w", err)
	}
	lower, upper, work, root := dir+"/lower", dir+"/upper", dir+"/work", dir+"/root"
	for _, d := range []string{lower, upper, work, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	if err := unix.Mount(rootDisk, lower, "ext4", unix.MS_RDONLY, ""); err != nil {
		return "", fmt.Errorf("mount %s: %w", rootDisk, err)
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	if err := unix.Mount("root", root, "overlay", 0, layers); err != nil {
		return "", fmt.Errorf("mount root: %w", err)
	}
	for _, target := range kept() {
		to := filepath.Join(root, target)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return "", err
		}
		if err := unix.Mount(target, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return "", fmt.Errorf("keep %s in root: %w", target, err)
		}
	}
	return root, nil
}

// kept are the directories of the guest that a Debian root gets, too: the mounts that are not below another
// one, and the files that the host packed.
func kept() []string {
	dirs := []string{"/vm", frame.SourceRoot}
	below := map[string]bool{}
	for _, m := range mounts {
		if !below["/"+topOf(m.target)] {
			dirs = append(dirs, m.target)
		}
		below[m.target] = true
	}
	return dirs
}

// topOf is the first part of an absolute path.
func topOf(path string) string {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			return path[1:i]
		}
	}
	return path[1:]
}
