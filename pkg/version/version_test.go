// SPDX-License-Identifier: Apache-2.0

package version

import (
	"runtime/debug"
	"testing"
)

func TestFromBuild(t *testing.T) {
	vcs := func(revision, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
	}
	for _, c := range []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"installed as a module", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		{"built from a clean tree", debug.BuildInfo{Settings: vcs("0123456789abcdef", "false")}, "0123456789ab"},
		{"built from a changed tree", debug.BuildInfo{Settings: vcs("0123456789abcdef", "true")},
			"0123456789ab-dirty"},
		{"built without version control", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "devel"},
		{"revision that is shorter than usual", debug.BuildInfo{Settings: vcs("0123", "false")}, "0123"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fromBuild(&c.info); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestStringIsNeverEmpty(t *testing.T) {
	if String() == "" {
		t.Error("empty version")
	}
}
