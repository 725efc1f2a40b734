// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"

	"golang.org/x/mod/semver"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
)

// chart writes what helm package does, with the version of the release and the time of its commit.
func (r *release) chart() error {
	c, err := loader.Load(filepath.Join(r.root, "conf", "kubernetes", "chart"))
	if err != nil {
		return err
	}
	c.Metadata.Version, c.Metadata.AppVersion = chartVersion(r.version), r.version
	c.StampModTimes(r.source.time)
	_, err = chartutil.Save(c, r.out)
	return err
}

// chartVersion is a semantic version without the v, as Helm wants it: that of a commit without a tag is older
// than all releases.
func chartVersion(version string) string {
	if semver.IsValid(version) {
		return strings.TrimPrefix(version, "v")
	}
	return "0.0.0-g" + version
}
