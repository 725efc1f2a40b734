// SPDX-License-Identifier: Apache-2.0

// Package containerd runs the real containerd, its shim and runc, and asks for pods as the kubelet does, with a network
// that has sockmap in its chain. Real programs in the containers exchange bytes that both ends compare, and the data
// path tells which way they went.
//
// It needs root, runc and unshare (test/setup.sh containerd); containerd and the CRI's client are built from the
// module tools the first time.
package containerd

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestMain(m *testing.M) {
	if err := setUpTools(); err != nil {
		fmt.Fprintln(os.Stderr, "The tests of containerd cannot run:", err)
		os.Exit(1)
	}
	forgetReport()
	if err := reapPodCgroups(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	removeMadeParents()
	code := labtest.Run(m)
	removeMadeParents()
	left := residue(lab.Prefix + labtest.Name())
	cgroups, err := podCgroups(ownUIDs())
	if left = append(left, cgroups...); err != nil || len(left) > 0 {
		fmt.Fprintf(os.Stderr, "left behind: %v\n%s\n", err, strings.Join(left, "\n"))
		code = max(code, 1)
	}
	if err := writeReport(code); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// residue lists what is on this machine of nodes whose ID begins with prefix, beyond what the lab itself looks for:
// mounts, processes, and what libcni keeps of attachments.
func residue(prefix string) (left []string) {
	add := func(found []string, err error) {
		if err != nil {
			found = append(found, err.Error())
		}
		left = append(left, found...)
	}
	add(mountsBelow("/run/" + prefix))
	add(processesOf("/run/" + prefix))
	add(filepath.Glob("/var/lib/cni/results/" + prefix + "*"))
	return left
}

func mountsBelow(prefix string) (found []string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], prefix) {
			found = append(found, "mount "+fields[4])
		}
	}
	return found, nil
}

// processesOf finds processes by their arguments, such as a shim's.
func processesOf(prefix string) (found []string, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			continue // gone meanwhile
		}
		if strings.Contains(string(b), prefix) {
			found = append(found, "process "+filepath.Base(filepath.Dir(file))+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found, err
}
