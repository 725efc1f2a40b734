// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// childName as the first argument makes Main run the probes instead of the program. It replaces the
// program's name, and only Run passes a name with spaces, so no argument or variable of a runtime can start
// the probes.
const childName = "sockmap hazard probes"

// timeout is for all probes together. They take milliseconds, and a second or two on a busy machine. A kernel
// that hangs one of them must not hang an ADD. A load that fails because of the timeout is remembered, and
// tried again a minute later.
const timeout = 20 * time.Second

// Attach puts the programs under test on a cgroup until the returned Closer is closed.
type Attach func(cgroup *os.File) (io.Closer, error)

// Run makes a cgroup, attaches the programs to it, and starts a child process in it that runs the probes:
// those of the named hazards, or all. The child is this executable, so its main function must begin with
// Main.
func Run(ctx context.Context, attach Attach, names ...string) (f hazard.Findings, err error) {
	path, done, err := makeCgroup()
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (run as root, or with CAP_DAC_OVERRIDE)", err)
		}
		return nil, fmt.Errorf("probe hazards: make cgroup: %w", err)
	}
	defer done()
	defer func() { err = errors.Join(err, removeCgroup(path)) }()
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("probe hazards: %w", err)
	}
	defer dir.Close()
	link, err := attach(dir)
	if err != nil {
		return nil, fmt.Errorf("probe hazards: %w", err)
	}
	defer func() { err = errors.Join(err, link.Close()) }()
	return child(ctx, dir, names)
}

// makeCgroup makes the cgroup of the probes at the root of cgroup2 or, in a container that may not write
// there, in the container's own cgroup. The caller calls done after it has removed the cgroup.
func makeCgroup() (path string, done func() error, err error) {
	// The process id in the name shows which leftovers belong to a killed process.
	name := fmt.Sprintf("sockmap-probe-%d-", os.Getpid())
	if own, err := cgroup.OpenOwnRoot(); err == nil {
		path, err := os.MkdirTemp(fmt.Sprintf("/proc/self/fd/%d", own.Fd()), name)
		if err != nil {
			err = errors.Join(err, own.Close())
		}
		return path, own.Close, err
	}
	// If the own root cannot be opened for any reason, try the mount.
	done = func() error { return nil }
	mount, err := cgroup.FindMount()
	if err != nil {
		return "", done, err
	}
	path, err = os.MkdirTemp(mount.Path, name)
	if !errors.Is(err, fs.ErrPermission) {
		return path, done, err
	}
	// Where the host has cgroup v1, containers have its namespace of cgroups. The root of cgroup2, which they
	// see, is not writable even for root without CAP_DAC_OVERRIDE. Their own cgroup is.
	own, errOwn := mount.Own()
	if errOwn != nil || own == mount.Path {
		return "", done, errors.Join(err, errOwn)
	}
	path, err = os.MkdirTemp(own, name)
	return path, done, err
}

// removeCgroup waits a little: the kernel lets go of a killed child's cgroup a moment after the child is
// reaped.
func removeCgroup(path string) error {
	var err error
	for range 50 {
		if err = os.Remove(path); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("probe hazards: remove cgroup: %w", err)
}

func child(ctx context.Context, dir *os.File, names []string) (hazard.Findings, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Env = append([]string{childName}, names...), []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()), Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("probe hazards: %w", explainChild(err, strings.TrimSpace(complaint.String())))
	}
	var f hazard.Findings
	if err := json.Unmarshal(out.Bytes(), &f); err != nil {
		return nil, fmt.Errorf("probe hazards: read findings: %w", err)
	}
	return f, nil
}

// exitNotPermitted is the exit status of a child that lacks a capability. Its parent lacks the capability,
// too, but another process may have it. So this is no failure of the kernel, and must not be recorded as one.
const exitNotPermitted = 3

func explainChild(err error, complaint string) error {
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitNotPermitted:
		return fmt.Errorf("%w: %s", syscall.EPERM, complaint)
	case errors.As(err, &exit):
		return fmt.Errorf("%w: %s", err, complaint)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("make a network namespace: %w (run as root, or with CAP_SYS_ADMIN)", err)
	}
	return err
}

// Main runs the probes and ends the process if this is the child that Run started. Else it returns at once.
func Main() {
	if len(os.Args) == 0 || os.Args[0] != childName {
		return
	}
	f, err := run(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, fs.ErrPermission) {
			os.Exit(exitNotPermitted)
		}
		os.Exit(1)
	}
	os.Exit(0)
}
