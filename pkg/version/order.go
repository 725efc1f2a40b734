// SPDX-License-Identifier: Apache-2.0

package version

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/semver"
)

// described matches the output of git describe for a commit that is no release: the release before it, and
// the number of commits since. It is compiled when it is needed, because the plugin starts for each container
// and compares no versions.
var described = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(.+)-(\d+)-g[0-9a-f]{4,}$`)
})

// Compare orders two versions. order is -1 if a is older, 1 if it is newer, and 0 otherwise. ok is false if
// the names have no order, such as those of commits.
func Compare(a, b string) (order int, ok bool) {
	aRelease, aSince := split(a)
	bRelease, bSince := split(b)
	if !semver.IsValid(aRelease) || !semver.IsValid(bRelease) {
		return 0, a == b
	}
	return cmp.Or(semver.Compare(aRelease, bRelease), cmp.Compare(aSince, bSince)), true
}

// split removes the number of commits, because semver would order such a version before the release that it
// follows.
func split(v string) (release string, commits int) {
	v = strings.TrimSuffix(v, "-dirty")
	m := described().FindStringSubmatch(v)
	if m == nil {
		return v, 0
	}
	commits, err := strconv.Atoi(m[2])
	if err != nil {
		return v, 0
	}
	return m[1], commits
}
