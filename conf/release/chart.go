// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/mod/semver"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
)

// chart writes what helm package does, with the version of the release and the time of its commit. Its README
// links to the documents of the release. If image is set, it is the default of the value image.repository.
func (r *release) chart(image string) error {
	c, err := loader.Load(filepath.Join(r.root, "conf", "kubernetes", "chart"))
	if err != nil {
		return err
	}
	c.Metadata.Version, c.Metadata.AppVersion = chartVersion(r.version), r.version
	if err := replaceIn(c.Files, "README.md", home+"/blob/main/", home+"/blob/"+r.version+"/"); err != nil {
		return err
	}
	if image != "" {
		if _, err := name.NewRepository(image, name.StrictValidation); err != nil {
			return fmt.Errorf("IMAGE: %w (want REGISTRY/NAME)", err)
		}
		if err := replaceIn(c.Raw, chartutil.ValuesfileName, repositoryLine(project),
			repositoryLine(image)); err != nil {
			return err
		}
	}
	c.StampModTimes(r.source.time)
	_, err = chartutil.Save(c, r.out)
	return err
}

// repositoryLine is the line of values.yaml that names the image.
func repositoryLine(image string) string { return "\n  repository: " + image + "\n" }

// replaceIn changes a file of the chart. It is an error if the file does not have the text.
func replaceIn(files []*common.File, file, from, to string) error {
	for _, f := range files {
		if f.Name == file && bytes.Contains(f.Data, []byte(from)) {
			f.Data = bytes.ReplaceAll(f.Data, []byte(from), []byte(to))
			return nil
		}
	}
	return fmt.Errorf("%s of the chart does not have %q", file, from)
}

// chartVersion is a semantic version without the v, as Helm wants it: that of a commit without a tag is older
// than all releases.
func chartVersion(version string) string {
	if semver.IsValid(version) {
		return strings.TrimPrefix(version, "v")
	}
	return "0.0.0-g" + version
}
