// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// writeChart writes the chart of this tree as one of a release, and returns its path.
func writeChart(t *testing.T, image string) (string, error) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	r := &release{root: root, out: t.TempDir(), version: tested, source: source{time: time.Unix(1700000000, 0)}}
	return filepath.Join(r.out, "sockmap-cni-9.8.7.tgz"), r.chart(image)
}

// The chart names an image that exists, if the release has one; values.yaml and README.md say what to do
// otherwise.
func TestChartNamesItsImageAndLinksToItsRelease(t *testing.T) {
	for image, want := range map[string]string{"": project, testedImage: testedImage} {
		path, err := writeChart(t, image)
		if err != nil {
			t.Fatal(err)
		}
		c, err := loader.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(daemonset(t, c), `image: "`+want+":"+tested+`"`) {
			t.Errorf("%q: the DaemonSet does not have the image %s:%s:\n%s", image, want, tested, daemonset(t, c))
		}
		text := map[string]string{}
		for _, f := range append(c.Files, c.Raw...) {
			text[f.Name] = string(f.Data)
		}
		if readme := text["README.md"]; strings.Contains(readme, "/blob/main/") ||
			!strings.Contains(readme, home+"/blob/"+tested+"/conf/kubernetes/README.md#running-pods") {
			t.Errorf("README.md does not link to the documents of %s:\n%s", tested, readme)
		}
		if strings.Contains(text["values.yaml"], "No image is published") {
			t.Error("values.yaml says that no image is published")
		}
	}
	for _, image := range []string{"sockmap-cni", "registry.example/Not Valid", "registry.example/x:v1"} {
		if _, err := writeChart(t, image); err == nil || !strings.Contains(err.Error(), "REGISTRY/NAME") {
			t.Errorf("%q: %v", image, err)
		}
	}
}
