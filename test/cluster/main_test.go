// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// roleVariable is the environment variable with the role of a process of this test; there are three.
const roleVariable = "SOCKMAP_CLUSTER_ROLE"

const (
	roleInit = "init" // process 1 of the namespaces: makes the node, and waits for everything that ends
	roleNode = "node" // runs the cluster and the tests
)

// cgroupRoot is the cgroup, below that of each hierarchy, that the kubelet uses as its root. It separates
// this node's pods from those that other tests make below /kubepods, which the kubelet would remove.
const cgroupRoot = "sockmap-cluster"

func TestMain(m *testing.M) {
	var code int
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		code, err = outside()
	case roleInit:
		code, err = asInit()
	case roleNode:
		code, err = inside(m)
	default:
		err = fmt.Errorf("%s=%s", roleVariable, role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// outside builds the programs, executes the test again in its own namespaces, and removes what remains
// outside of them.
func outside() (code int, err error) {
	if err := setUpTools(); err != nil {
		return 1, fmt.Errorf("the tests of a cluster cannot run: %w", err)
	}
	unlock, err := alone()
	if err != nil {
		return 1, err
	}
	defer unlock()
	if err := cleanUp(); err != nil { // files of a killed process
		return 1, err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()
	if err := errors.Join(makeCgroups(), makeDirs()); err != nil {
		return 1, err
	}
	return again()
}

// alone prevents a second run from using the same directories.
func alone() (unlock func(), err error) {
	f, err := os.Open(tools.cache)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: another run uses it: %w", tools.cache, err)
	}
	return func() { f.Close() }, nil
}

// again runs the test in new namespaces until it ends, or until a signal ends this process.
func again() (code int, err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	// Pdeathsig is sent when the thread that made the process ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleInit)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC,
		Pdeathsig: unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("make the node's namespaces: %w", err)
	}
	go func() {
		// When process 1 ends, all others of its namespace end.
		<-signals
		_ = cmd.Process.Kill()
	}()
	var exit *exec.ExitError
	if err = cmd.Wait(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

func makeDirs() error {
	errs := []error{os.RemoveAll(logDir())} // of the previous run
	for _, dir := range append([]string{logDir()}, nodeDirs()...) {
		errs = append(errs, os.MkdirAll(dir, 0o755))
	}
	return errors.Join(errs...)
}

// logDir contains the logs of the daemons, for the analysis of a failure.
func logDir() string { return filepath.Join(tools.cache, "logs") }

func makeCgroups() error {
	all, _, err := lab.Hierarchies()
	if err != nil {
		return err
	}
	for _, mount := range all {
		dir := filepath.Join(mount, cgroupRoot)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if err := lab.FillCpuset(dir); err != nil {
			return err
		}
	}
	return nil
}

// cleanUp removes files and cgroups of the node.
func cleanUp() error {
	all, unified, err := lab.Hierarchies()
	if err != nil {
		return err
	}
	// There is no process to kill, unless one in the cgroups has escaped from the namespaces.
	err = os.WriteFile(filepath.Join(unified, cgroupRoot, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	errs := []error{err}
	for _, mount := range all {
		errs = append(errs, lab.RemoveCgroups(filepath.Join(mount, cgroupRoot)))
	}
	return errors.Join(append(errs, os.RemoveAll(nodeDir()))...)
}

// inside boots the cluster and runs the tests.
func inside(m *testing.M) (code int, err error) {
	if err := findTools(); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shutDown()) }()
	if err := boot(); err != nil {
		return 1, fmt.Errorf("boot the cluster: %w\nThe logs of the daemons are in %s", err, logDir())
	}
	return m.Run(), nil
}
