// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// ErrMissing is returned when a program or a file of the distribution is not installed. Its text names the
// packages to install.
var ErrMissing = errors.New("not installed")

// packageOf names the Debian package of each file that this module needs.
var packageOf = map[string]string{
	"apt-get":             "apt",
	"cpio":                "cpio",
	"depmod":              "kmod",
	"dpkg-deb":            "dpkg",
	"ldd":                 "libc-bin",
	"mkfs.ext4":           "e2fsprogs",
	"mmdebstrap":          "mmdebstrap",
	"qemu-system-aarch64": "qemu-system-arm",
	"qemu-system-x86_64":  "qemu-system-x86",
	"xz":                  "xz-utils",
	"zstd":                "zstd",
	keyring:               "debian-archive-keyring",
}

// Need checks that all named programs (and files, by absolute path) exist. The error is ErrMissing and names
// all that are missing.
func Need(names ...string) error {
	var missing, packages []string
	for _, name := range names {
		if found(name) {
			continue
		}
		missing = append(missing, name)
		if p := packageOf[name]; !slices.Contains(packages, p) {
			packages = append(packages, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("find %s: %w (apt-get install --no-install-recommends %s)",
		strings.Join(missing, ", "), ErrMissing, strings.Join(packages, " "))
}

func found(name string) bool {
	if strings.HasPrefix(name, "/") {
		_, err := os.Stat(name)
		return err == nil
	}
	_, err := exec.LookPath(name)
	return err == nil
}
