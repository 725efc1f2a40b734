// SPDX-License-Identifier: Apache-2.0

// Package version is the version of this program.
package version

import "runtime/debug"

// version is set by the linker: -X github.com/sockmap-cni/sockmap-cni/pkg/version.version=v1.2.3
var version string

// String returns the release, or what the toolchain recorded: a module version, or the commit with "-dirty"
// if the source was changed.
func String() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return fromBuild(info)
}

func fromBuild(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "devel"
	}
	return revision + dirty
}
