// SPDX-License-Identifier: Apache-2.0

// Package selinux names SELinux where it is the likely reason for what root was not permitted to do.
package selinux

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Files of the kernel; tests have their own. Containers do not see the second one.
var (
	labelFile   = "/proc/self/attr/current"
	enforceFile = "/sys/fs/selinux/enforce"
)

// Label is the SELinux label of this process, USER:ROLE:TYPE:LEVEL. It is empty where SELinux does not decide: it is
// not there, or only logs.
func Label() string {
	enforce, err := os.ReadFile(enforceFile)
	if err == nil && string(bytes.TrimSpace(enforce)) == "0" {
		return ""
	}
	text, err := os.ReadFile(labelFile)
	label := strings.TrimRight(string(text), "\x00\n")
	// AppArmor has its own form there, without the colons.
	if err != nil || strings.Count(label, ":") < 2 || strings.Contains(label, " ") {
		return ""
	}
	return label
}

// Explain returns err with the remark that SELinux may be its cause when root got EACCES where SELinux is enforcing.
// Any other error is returned as it is, and so is one whose text goes on behind that of EACCES: it says why itself, as
// the verifier does.
func Explain(err error) error {
	if !errors.Is(err, unix.EACCES) || os.Geteuid() != 0 || !strings.HasSuffix(err.Error(), unix.EACCES.Error()) {
		return err
	}
	label := Label()
	if label == "" {
		return err
	}
	return fmt.Errorf("%w (SELinux is enforcing and may refuse this to %s: see \"ausearch -m avc -ts recent\"; the "+
		"agent's container needs the type spc_t, which platforms/selinux.yaml of the chart sets)", err, label)
}
