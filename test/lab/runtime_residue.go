// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// RuntimeResidue lists what real runtimes have left on this machine for nodes whose ID begins with prefix, in
// addition to Residue: mounts, processes, and libcni's cache of attachments.
func RuntimeResidue(prefix string) (left []string) {
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

// processesOf finds processes by their arguments, such as those of a shim.
func processesOf(prefix string) (found []string, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			continue // ended meanwhile
		}
		if strings.Contains(string(b), prefix) {
			found = append(found, "process "+filepath.Base(filepath.Dir(file))+": "+strings.ReplaceAll(string(b),
				"\x00", " "))
		}
	}
	return found, err
}
