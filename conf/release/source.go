// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// source is the commit that is released.
type source struct {
	commit string
	time   time.Time // SOURCE_DATE_EPOCH if it is set, else the commit's
}

func readSource(root string) (source, error) {
	commit, err := git(root, "rev-parse", "HEAD")
	if err != nil {
		return source{}, err
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = git(root, "log", "-1", "--format=%ct"); err != nil {
			return source{}, err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return source{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is not a number of seconds", epoch)
	}
	return source{commit, time.Unix(seconds, 0).UTC()}, nil
}

// released is what tags of releases are called. conf/packages/build.sh takes the same.
var released = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[a-z][a-z0-9.]*)?$`)

const dirtySuffix = "-dirty"

// check returns the version to build. A version that is no tag of this commit, and a tree with changes, are
// refused unless allow is set; then the version says that there are changes.
func check(root, version string, allow bool) (string, error) {
	changes, err := git(root, "status", "--porcelain")
	if err != nil {
		return "", err
	}
	if changes != "" {
		if !allow {
			first, _, more := strings.Cut(changes, "\n")
			if more {
				first += ", ..."
			}
			return "",
				fmt.Errorf("the tree has changes that are not committed: %s (commit them, or try with ALLOW_DIRTY=1)",
					first)
		}
		return strings.TrimSuffix(version, dirtySuffix) + dirtySuffix, nil
	}
	if allow {
		return version, nil
	}
	tags, err := git(root, "tag", "--points-at", "HEAD")
	if err != nil {
		return "", err
	}
	if !released.MatchString(version) {
		return "", fmt.Errorf("%q is no version such as v1.2.3 or v1.2.3-rc.1 "+
			"(set the tag with: git tag -a v1.2.3, or try with ALLOW_DIRTY=1)", version)
	}
	if !slices.Contains(strings.Fields(tags), version) {
		return "", fmt.Errorf("this commit has no tag %s (set it with: git tag -a %s, or try with ALLOW_DIRTY=1)",
			version, version)
	}
	return version, nil
}

func git(root string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
