// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	home     = "https://github.com/sockmap-cni/sockmap-cni"
	licences = "Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)"
	label    = "org.opencontainers.image."
	summary  = "TCP between containers of one node from socket to socket, as a chained CNI plugin"
)

// image writes an OCI layout, as a directory and as an archive of it. Its index names one image, by the
// version, and that has a manifest for each architecture. conf/Dockerfile makes the same image; a test
// compares both.
func (r *release) image() error {
	all := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range architectures {
		img, err := r.imageOf(arch)
		if err != nil {
			return err
		}
		platform := &v1.Platform{OS: "linux", Architecture: arch}
		all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: platform}})
	}
	dir := r.name("-oci")
	l, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{label + "ref.name": r.version})
	if err := l.AppendIndex(all, named); err != nil {
		return err
	}
	entries, err := below(dir, "")
	if err != nil {
		return err
	}
	return createFile(r.name("-oci.tar"), func(out io.Writer) error {
		return writeTar(out, entries, r.source.time)
	})
}

func (r *release) imageOf(arch string) (v1.Image, error) {
	entries := []entry{
		{"usr/local/bin/sockmap", r.binary("image", arch, "sockmap"), executable},
		{"usr/local/bin/sockmapctl", r.binary("image", arch, "sockmapctl"), executable},
		{"licenses/LICENSE", filepath.Join(r.root, "LICENSE"), readable},
	}
	texts, err := below(filepath.Join(r.root, "LICENSES"), "licenses")
	if err != nil {
		return nil, err
	}
	var files bytes.Buffer
	if err := writeTar(&files, append(entries, texts...), r.source.time); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression),
		tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: r.source.time}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: created, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       "0:0",
			Entrypoint: []string{"/usr/local/bin/sockmapctl"},
			Cmd:        []string{"agent"},
			Labels:     r.labels(),
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{Layer: layer,
		History: v1.History{Created: created, CreatedBy: "make release"}})
}

func (r *release) labels() map[string]string {
	return map[string]string{
		label + "title":         project,
		label + "description":   summary,
		label + "licenses":      licences,
		label + "version":       r.version,
		label + "revision":      r.source.commit,
		label + "created":       r.source.time.Format(time.RFC3339),
		label + "source":        home,
		label + "url":           home,
		label + "documentation": home + "/tree/" + r.source.commit + "/docs",
	}
}
