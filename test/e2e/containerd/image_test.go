// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Names of the images. No registry is asked for them: they are imported.
const (
	pauseImage   = "docker.io/local/pause:1"
	trafficImage = "docker.io/local/traffic:1"
)

// descriptor is what an OCI image layout refers to a blob by.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// layout is an OCI image layout in the making, a tar file.
type layout struct {
	*tar.Writer
	written map[string]bool
}

// writeImages writes a tar file of images by name, each with one static program, which it starts.
func writeImages(file string, programs map[string]string) error {
	var all bytes.Buffer
	l := layout{tar.NewWriter(&all), map[string]bool{}}
	var manifests []descriptor
	for name, program := range programs {
		d, err := l.image(program)
		if err != nil {
			return fmt.Errorf("make image %s: %w", name, err)
		}
		d.Annotations = map[string]string{"io.containerd.image.name": name}
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
func (l layout) image(program string) (descriptor, error) {
	files, err := layer(program)
	if err != nil {
		return descriptor{}, err
	}
	content, err := l.blob("application/vnd.oci.image.layer.v1.tar", files)
	if err != nil {
		return descriptor{}, err
	}
	config, err := l.jsonBlob("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/" + filepath.Base(program)}},
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

// layer is a tar file with one program in the root directory.
func layer(program string) ([]byte, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	l := layout{Writer: tar.NewWriter(&b)}
	if err := l.file(filepath.Base(program), 0o755, content); err != nil {
		return nil, err
	}
	err = l.Close()
	return b.Bytes(), err
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
