// SPDX-License-Identifier: Apache-2.0

// Package selinux adds a hint to errors that SELinux has probably caused.
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

// Label returns the SELinux label of this process, USER:ROLE:TYPE:LEVEL. It is empty if SELinux is not
// enforcing.
func Label() string {
	enforce, err := os.ReadFile(enforceFile)
	if err == nil && string(bytes.TrimSpace(enforce)) == "0" {
		return ""
	}
	text, err := os.ReadFile(labelFile)
	label := strings.TrimRight(string(text), "\x00\n")
	// AppArmor has another format in the same file, without the colons.
	if err != nil || strings.Count(label, ":") < 2 || strings.Contains(label, " ") {
		return ""
	}
	return label
}

// Explain adds to an EACCES that root got the hint that SELinux may be the cause, if SELinux is enforcing. It
// returns any other error as it is, and also one with more text after that of EACCES, which explains itself,
// as the verifier's does.
func Explain(err error) error {
	if !errors.Is(err, unix.EACCES) || os.Geteuid() != 0 ||
		!strings.HasSuffix(err.Error(), unix.EACCES.Error()) {
		return err
	}
	label := Label()
	if label == "" {
		return err
	}
	return fmt.Errorf("%w (SELinux is enforcing and may refuse this to %s: see \"ausearch -m avc -ts "+
		"recent\"; the agent's container needs the type spc_t, which platforms/selinux.yaml of the chart "+
		"sets)", err, label)
}
