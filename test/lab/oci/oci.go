// SPDX-License-Identifier: Apache-2.0

// Package oci makes container images of static programs, for tests that have no registry: a tar file in the
// OCI layout, which a runtime imports.
package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// An Image has one layer.
type Image struct {
	Name  string            // name under which it is imported
	Files map[string]string // local files to copy, by their path in the image
	// Config is the configuration of the image's containers: User, Entrypoint, Cmd, Labels.
	Config Config
}

// Config is the part of an image's configuration that the tests use.
type Config struct {
	User       string            `json:"User,omitempty"`
	Entrypoint []string          `json:"Entrypoint,omitempty"`
	Cmd        []string          `json:"Cmd,omitempty"`
	Labels     map[string]string `json:"Labels,omitempty"`
}

// Program returns an image with one program in its root directory, and that program as entrypoint.
func Program(name, file string) Image {
	in := filepath.Base(file)
	return Image{Name: name, Files: map[string]string{in: file}, Config: Config{Entrypoint: []string{"/" + in}}}
}

// descriptor refers to a blob of an OCI image layout.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// layout is a tar file of an OCI image layout that is being written.
type layout struct {
	*tar.Writer
	written map[string]bool
}

// Write writes a tar file of images.
func Write(file string, images ...Image) error {
	var all bytes.Buffer
	l := layout{tar.NewWriter(&all), map[string]bool{}}
	var manifests []descriptor
	for _, image := range images {
		d, err := l.image(image)
		if err != nil {
			return fmt.Errorf("make image %s: %w", image.Name, err)
		}
		d.Annotations = map[string]string{"io.containerd.image.name": image.Name}
		manifests = append(manifests, d)
	}
	index := map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
	}
	if err := l.json("index.json", index); err != nil {
		return err
	}
	if err := l.json("oci-layout", map[string]any{"imageLayoutVersion": "1.0.0"}); err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("make images: %w", err)
	}
	if err := os.WriteFile(file+".new", all.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write images: %w", err)
	}
	return os.Rename(file+".new", file)
}

// image adds layer, configuration and manifest of an image.
func (l layout) image(image Image) (descriptor, error) {
	files, err := layer(image.Files)
	if err != nil {
		return descriptor{}, err
	}
	content, err := l.blob("application/vnd.oci.image.layer.v1.tar", files)
	if err != nil {
		return descriptor{}, err
	}
	config, err := l.jsonBlob("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": image.Config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{content.Digest}},
	})
	if err != nil {
		return descriptor{}, err
	}
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	return l.jsonBlob(manifest, map[string]any{
		"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": []descriptor{content},
	})
}

// layer is a tar file with the files, each with its own mode, and their directories.
func layer(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	l := layout{Writer: tar.NewWriter(&b)}
	made := map[string]bool{".": true}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := l.directories(path.Dir(name), made); err != nil {
			return nil, err
		}
		info, err := os.Stat(files[name])
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(files[name])
		if err != nil {
			return nil, err
		}
		if err := l.file(name, int64(info.Mode().Perm()), content); err != nil {
			return nil, err
		}
	}
	err := l.Close()
	return b.Bytes(), err
}

// directories adds a directory and those above it.
func (l layout) directories(dir string, made map[string]bool) error {
	var whole string
	for part := range strings.SplitSeq(dir, "/") {
		whole = path.Join(whole, part)
		if made[whole] {
			continue
		}
		made[whole] = true
		if err := l.WriteHeader(&tar.Header{Name: whole + "/", Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
			return fmt.Errorf("add %s: %w", whole, err)
		}
	}
	return nil
}

func (l layout) jsonBlob(mediaType string, v any) (descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return l.blob(mediaType, b)
}

func (l layout) blob(mediaType string, content []byte) (descriptor, error) {
	sum := sha256.Sum256(content)
	name := hex.EncodeToString(sum[:])
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + name, Size: len(content)}
	if l.written[name] {
		return d, nil
	}
	l.written[name] = true
	return d, l.file("blobs/sha256/"+name, 0o644, content)
}

func (l layout) json(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.file(name, 0o644, b)
}

func (l layout) file(name string, mode int64, content []byte) error {
	err := l.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.Copy(l, bytes.NewReader(content))
	}
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	return nil
}
