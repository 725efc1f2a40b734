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

// described is what git describe makes of a commit that is no release: the release before, and how many commits came
// since. Compiled when it is needed: the plugin starts for each container and compares no versions, unless it upgrades.
var described = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(.+)-(\d+)-g[0-9a-f]{4,}$`) })

// Compare orders two versions: -1 when a is the older one, 1 when it is the newer, 0 when neither is. ok is false where
// their names do not tell, as those of commits do not.
func Compare(a, b string) (order int, ok bool) {
	aRelease, aSince := split(a)
	bRelease, bSince := split(b)
	if !semver.IsValid(aRelease) || !semver.IsValid(bRelease) {
		return 0, a == b
	}
	return cmp.Or(semver.Compare(aRelease, bRelease), cmp.Compare(aSince, bSince)), true
}

// split takes the number of commits off, which to semver would make a version older than the release that it follows.
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
