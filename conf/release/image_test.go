// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func checkImage(t *testing.T, root, out string) {
	dir := artefact(out, "-oci")
	unpacked, headers := unpack(t, dir+".tar")
	checkHeaders(t, out, headers)
	if one, other := digests(t, dir), digests(t, unpacked); !maps.Equal(one, other) {
		t.Errorf("the archive of the layout has %v, the directory %v", other, one)
	}
	index, err := layout.ImageIndexFromPath(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	// Every digest and size, down to the files of the layers.
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 || m.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != tested {
		t.Fatalf("the index does not name one image %s: %+v", tested, m.Manifests)
	}
	image, err := index.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = image.IndexManifest(); err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range m.Manifests {
		platforms = append(platforms, d.Platform.String())
		img, err := image.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkPlatform(t, root, img, d.Platform.Architecture)
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("platforms are %q, want %q", platforms, want)
	}
}

var filesOfImage = []string{
	"licenses/Apache-2.0.txt", "licenses/BSD-2-Clause.txt", "licenses/GPL-2.0-only.txt", "licenses/LICENSE",
	"usr/local/bin/sockmap", "usr/local/bin/sockmapctl",
}

func checkPlatform(t *testing.T, root string, img v1.Image, arch string) {
	t.Helper()
	files := mutate.Extract(img)
	defer files.Close()
	dir, headers := unpackFrom(t, files)
	checkHeaders(t, root, headers)
	if got := slices.Sorted(maps.Keys(digests(t, dir))); !slices.Equal(got, filesOfImage) {
		t.Errorf("the image for %s has %q, want %q", arch, got, filesOfImage)
	}
	checkPrograms(t, dir, "usr/local/bin", arch)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	commit := output(t, root, nil, "git", "rev-parse", "HEAD")
	if config.OS != "linux" || config.Architecture != arch || c.Labels[label+"version"] != tested ||
		c.Labels[label+"revision"] != commit {
		t.Errorf("image for %s: %+v", arch, config)
	}
	if arch == "amd64" {
		checkLikeDockerfile(t, root, c)
	}
	compressed := int64(0)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		size, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		compressed += size
	}
	t.Logf("image for %s: %.1f MB compressed", arch, float64(compressed)/1e6)
}

// checkLikeDockerfile compares the image with the one that conf/Dockerfile makes of the same commit.
func checkLikeDockerfile(t *testing.T, root string, got v1.Config) {
	t.Helper()
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`),
		0o600); err != nil {
		t.Fatal(err)
	}
	buildah := func(args ...string) string {
		t.Helper()
		return output(t, root, nil, "buildah", append([]string{"--root", dir + "/root", "--runroot", dir + "/run",
			"--storage-driver", "vfs"}, args...)...)
	}
	buildah("bud", "--signature-policy", policy, "--isolation", "chroot", "--pull-never", "--platform",
		"linux/amd64",
		"--build-arg", "VERSION="+tested, "--build-arg", "REVISION="+got.Labels[label+"revision"],
		"--build-arg", "CREATED="+got.Labels[label+"created"], "-f", "conf/Dockerfile", "-t", "release-test", ".")
	var built struct{ OCIv1 v1.ConfigFile }
	if err := json.Unmarshal([]byte(buildah("inspect", "--type", "image", "release-test")), &built); err != nil {
		t.Fatal(err)
	}
	want := built.OCIv1.Config
	delete(want.Labels, "io.buildah.version")
	if got.User != want.User || !slices.Equal(got.Entrypoint, want.Entrypoint) ||
		!slices.Equal(got.Cmd, want.Cmd) || !maps.Equal(got.Labels, want.Labels) {
		t.Errorf("the image has %+v, that of conf/Dockerfile %+v", got, want)
	}
}

// terminalLibrary draws the terminal view, which is of no use in a container of the agent.
const terminalLibrary = "charm.land/bubbletea/v2"

// linked are the modules of a program.
func linked(t *testing.T, path string) map[string]bool {
	t.Helper()
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]bool{}
	for _, m := range info.Deps {
		modules[m.Path] = true
	}
	return modules
}

// checkLinked: the image has what the agent needs; archives and packages have everything.
func checkLinked(t *testing.T, root string) {
	for arch := range machines {
		for _, name := range []string{"sockmap", "sockmapctl"} {
			for module := range linked(t, filepath.Join(root, "bin/image", arch, name)) {
				for _, unwanted := range []string{"charm.land/", "charmbracelet/", "md2man"} {
					if strings.Contains(module, unwanted) {
						t.Errorf("%s of the image for %s links %s", name, arch, module)
					}
				}
			}
		}
		if !linked(t, filepath.Join(root, "bin/linux", arch, "sockmapctl"))[terminalLibrary] {
			t.Errorf("sockmapctl for %s does not link %s, so it has no top", arch, terminalLibrary)
		}
	}
}

func checkSBOM(t *testing.T, root, out string) {
	content, err := os.ReadFile(artefact(out, ".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(content), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	components, parts := map[string]cdx.Component{}, map[string][]string{}
	for _, c := range *bom.Components {
		components[c.BOMRef] = c
		if c.Licenses == nil {
			t.Errorf("the licence of %s is not known", c.BOMRef)
		}
	}
	for _, d := range *bom.Dependencies {
		parts[d.Ref] = *d.Dependencies
		for _, ref := range *d.Dependencies {
			if _, ok := components[ref]; !ok {
				t.Errorf("%s depends on %s, which is not described", d.Ref, ref)
			}
		}
	}
	for _, kind := range []string{"linux", "image"} {
		for arch := range machines {
			for _, name := range []string{"sockmap", "sockmapctl"} {
				path := filepath.Join(root, "bin", kind, arch, name)
				ref := "program:" + kind + "/" + arch + "/" + name
				checkProgramInSBOM(t, path, components[ref], parts[ref])
			}
		}
	}
}

func checkProgramInSBOM(t *testing.T, path string, c cdx.Component, parts []string) {
	t.Helper()
	sum, err := digest(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Hashes == nil || (*c.Hashes)[0].Value != sum {
		t.Errorf("%s is not in the bill with its digest: %+v", path, c)
	}
	modules := 0
	for line := range strings.Lines(output(t, ".", nil, "go", "version", "-m", path)) {
		w := strings.Fields(line)
		if len(w) < 3 || w[0] != "dep" {
			continue
		}
		modules++
		if ref := "pkg:golang/" + w[1] + "@" + w[2]; !slices.Contains(parts, ref) {
			t.Errorf("%s links %s, which the bill does not say", path, ref)
		}
	}
	objects := 0
	for _, ref := range parts {
		if strings.HasPrefix(ref, "object:") {
			objects++
		}
	}
	if modules < 5 || objects < 2 {
		t.Errorf("%s: %d modules and %d BPF objects", path, modules, objects)
	}
}
