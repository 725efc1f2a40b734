// SPDX-License-Identifier: Apache-2.0

// Package chart renders the Helm chart of conf/kubernetes as helm itself would, without a cluster.
package chart

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	v2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"sigs.k8s.io/yaml"
)

// Release and Namespace are those of the committed manifests.
const (
	Release   = "sockmap-cni"
	Namespace = "kube-system"
)

const notes = "NOTES.txt"

// Chart is a loaded chart, which can be rendered any number of times.
type Chart struct {
	dir   string
	chart *v2.Chart
}

// Load reads the chart in dir.
func Load(dir string) (*Chart, error) {
	c, err := loader.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	return &Chart{dir, c}, nil
}

// Defaults returns a copy of values.yaml.
func (c *Chart) Defaults() map[string]any { return deepCopy(c.chart.Values) }

// Platforms lists the names of the files in platforms/, in order.
func (c *Chart) Platforms() ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(c.dir, "platforms", "*.yaml"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".yaml"))
	}
	return names, nil
}

// Platform reads the values of one platform. The empty name has none.
func (c *Chart) Platform(name string) (map[string]any, error) {
	values := map[string]any{}
	if name == "" {
		return values, nil
	}
	content, err := os.ReadFile(filepath.Join(c.dir, "platforms", name+".yaml"))
	if err != nil {
		return nil, err
	}
	return values, yaml.UnmarshalStrict(content, &values)
}

// Render returns the documents in the order in which helm installs them. values override values.yaml, and are
// checked against the schema. The last result is the text that helm prints after an install. Hooks are not
// included.
func (c *Chart) Render(release, namespace string, values map[string]any) (
	documents []string, told string, err error) {
	files, err := c.files(release, namespace, values)
	if err != nil {
		return nil, "", err
	}
	for name := range maps.Clone(files) {
		if filepath.Base(name) == notes {
			told = files[name]
			delete(files, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, "", err
	}
	for _, m := range manifests {
		documents = append(documents, m.Content)
	}
	return documents, told, nil
}

// Hooks returns the hooks of the chart.
func (c *Chart) Hooks(release, namespace string, values map[string]any) ([]*releasev1.Hook, error) {
	files, err := c.files(release, namespace, values)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(files, func(name, _ string) bool { return filepath.Base(name) == notes })
	hooks, _, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	return hooks, err
}

// files renders all templates.
func (c *Chart) files(release, namespace string, values map[string]any) (map[string]string, error) {
	options := common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(c.chart, deepCopy(values), options, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return (engine.Engine{Strict: true}).RenderWithContext(context.Background(), c.chart, all)
}

// Only true of the documents that helm installs.
var helmsOwn = regexp.MustCompile(`(?m)^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n`)

// Manifest returns the file of conf/kubernetes/manifests for a platform.
func (c *Chart) Manifest(platform string) (string, error) {
	values, err := c.Platform(platform)
	if err != nil {
		return "", err
	}
	documents, _, err := c.Render(Release, Namespace, values)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# SPDX-License-Identifier: Apache-2.0\n# Generated from conf/kubernetes/chart: make manifests. DO NOT EDIT.\n")
	for _, d := range documents {
		b.WriteString("---\n" + helmsOwn.ReplaceAllString(strings.TrimSpace(d)+"\n", ""))
	}
	return b.String(), nil
}

// Manifests returns all of them by file name.
func (c *Chart) Manifests() (map[string]string, error) {
	names, err := c.Platforms()
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, name := range append([]string{""}, names...) {
		file := "sockmap-cni.yaml"
		if name != "" {
			file = "sockmap-cni-" + name + ".yaml"
		}
		if all[file], err = c.Manifest(name); err != nil {
			return nil, fmt.Errorf("platform %q: %w", name, err)
		}
	}
	return all, nil
}

func deepCopy(values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for k, v := range values {
		switch v := v.(type) {
		case map[string]any:
			out[k] = deepCopy(v)
		case []any:
			out[k] = slices.Clone(v)
		default:
			out[k] = v
		}
	}
	return out
}
