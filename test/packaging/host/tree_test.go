// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
	"golang.org/x/sys/unix"
)

const (
	top   = "../../.."
	suite = "bookworm"
	// makeLimit is enough for a slow archive.
	makeLimit = 10 * time.Minute
)

// packages of the machine. containerd is Debian's, with ctr.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "iproute2", "iptables", "procps", "podman", "conmon", "runc",
	"containernetworking-plugins", "netavark", "containerd", "rpm",
}

// tree returns the directory of a Debian system with these packages, which is made once and never written to.
func tree(t *testing.T) string {
	t.Helper()
	home, err := filepath.Abs(filepath.Join(top, ".cache", "host"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{suite}, packages...), "\n")))
	dir := filepath.Join(home, suite+"-"+hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), makeLimit)
	defer cancel()
	l, err := lock.Exclusive(ctx, home)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := makeTree(ctx, home, dir); err != nil {
		t.Fatalf("make Debian tree: %v", err)
	}
	return dir
}

func makeTree(ctx context.Context, home, dir string) error {
	sources, err := kernel.SourcesOf(ctx, suite, suite+"-security")
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(home, "new-")
	if err != nil {
		return err
	}
	next := filepath.Join(work, "tree")
	args := []string{
		"--variant=minbase", "--mode=root", "--aptopt=APT::Install-Recommends \"false\"",
		"--include=" + strings.Join(packages, ","), suite, next,
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, sources.Lines...)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	// A killed command would leave mounts below the tree.
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("mmdebstrap: %w: %s", err, sources.Said(said.String())), os.RemoveAll(work))
	}
	return errors.Join(os.Rename(next, dir), os.RemoveAll(work))
}
