// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attribute is an extended attribute of a file.
type attribute struct {
	name  string
	value []byte
}

const (
	attributeACL   = "system.posix_acl_access"
	attributesUser = "user."
)

// isKept reports whether a rewritten file keeps this attribute of the old one: SELinux and Smack label, ACL,
// and attributes of users. Attributes that the kernel computes from the content (IMA, EVM) or uses itself
// (trusted) are not kept.
func isKept(name string) bool {
	switch name {
	case "security.selinux", "security.SMACK64", attributeACL:
		return true
	}
	return strings.HasPrefix(name, attributesUser)
}

// attributesOf reads the attributes of a file that isKept selects. On a file system without attributes the
// list is empty.
func attributesOf(path string) ([]attribute, error) {
	names, err := listAttributes(path)
	if errors.Is(err, unix.ENOTSUP) {
		return []attribute{}, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: path, Err: err}
	}
	all := []attribute{}
	for _, name := range names {
		if !isKept(name) {
			continue
		}
		value, err := readSized(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		all = append(all, attribute{name, value})
	}
	return all, nil
}

func listAttributes(path string) (names []string, err error) {
	list, err := readSized(func(b []byte) (int, error) { return unix.Listxattr(path, b) })
	for name := range bytes.SplitSeq(list, []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names, err
}

// readSized calls get with a buffer of the size that get asks for.
func readSized(get func(b []byte) (int, error)) ([]byte, error) {
	const attempts = 5 // another process may enlarge it meanwhile
	for n := 1; ; n++ {
		size, err := get(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		b := make([]byte, size)
		size, err = get(b)
		if err == nil {
			return b[:size], nil
		}
		if !errors.Is(err, unix.ERANGE) || n == attempts {
			return nil, err
		}
	}
}

// withoutUserAttributes returns the attributes without those of users.
func (l fileAttributes) withoutUserAttributes() fileAttributes {
	l.attributes = slices.DeleteFunc(slices.Clone(l.attributes), func(a attribute) bool {
		return strings.HasPrefix(a.name, attributesUser)
	})
	return l
}

// setAttributes sets the attributes of f. If the ACL cannot be set, it returns an error, because the
// permission bits are only a part of the ACL. If another one cannot be set, it logs that.
func (i *Installer) setAttributes(f *os.File, all []attribute) error {
	if all == nil {
		return nil
	}
	// The file may have inherited an ACL from its directory.
	err := unix.Fremovexattr(int(f.Fd()), attributeACL)
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("remove the ACL of its directory: %w", err)
	}
	for _, a := range all {
		err := unix.Fsetxattr(int(f.Fd()), a.name, a.value, 0)
		switch {
		case err == nil:
		case a.name == attributeACL:
			return fmt.Errorf("keep its ACL: %w", err)
		default:
			i.log().Warn("an attribute of the file could not be kept", "attribute", a.name, "error", err)
		}
	}
	return nil
}
