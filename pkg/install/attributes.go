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

// isKept tells whether a file that is written anew keeps an attribute of the old one: its label, its ACL, and what people
// or programs have noted. What the kernel computes of the content (IMA, EVM) or uses for itself (trusted) is not.
func isKept(name string) bool {
	switch name {
	case "security.selinux", "security.SMACK64", attributeACL:
		return true
	}
	return strings.HasPrefix(name, attributesUser)
}

// attributesOf reads those attributes of a file that are kept. A file system without attributes has none.
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
			continue // removed since
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

// readSized calls get with a buffer that is as large as it has to be.
func readSized(get func(b []byte) (int, error)) ([]byte, error) {
	const attempts = 5 // somebody may make it larger meanwhile
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

// withoutUserAttributes returns who may do what with a file without what is noted of it.
func (l fileAttributes) withoutUserAttributes() fileAttributes {
	l.attributes = slices.DeleteFunc(slices.Clone(l.attributes), func(a attribute) bool {
		return strings.HasPrefix(a.name, attributesUser)
	})
	return l
}

// setAttributes gives f the attributes. Of an ACL the mode of the group is only a part, so a file that cannot have it is
// not written; the others are only told of.
func (i *Installer) setAttributes(f *os.File, all []attribute) error {
	if all == nil {
		return nil
	}
	// It may have inherited an ACL of its directory.
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
