// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
)

// WriteDocker writes a tar file of images as `docker save` does. A program that reads images by the transport
// "docker-archive:FILE:" instead of a registry finds them there by their names.
func WriteDocker(file string, images ...Image) error {
	var all bytes.Buffer
	l := layout{tar.NewWriter(&all), map[string]bool{}}
	var manifest []map[string]any
	for _, image := range images {
		config, content, err := l.docker(image)
		if err != nil {
			return fmt.Errorf("make image %s: %w", image.Name, err)
		}
		manifest = append(manifest, map[string]any{
			"Config": config, "RepoTags": []string{image.Name}, "Layers": []string{content},
		})
	}
	if err := l.json("manifest.json", manifest); err != nil {
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

// docker adds configuration and layer of an image, and returns the names of their files.
func (l layout) docker(image Image) (config, content string, err error) {
	files, err := layer(image.Files)
	if err != nil {
		return "", "", err
	}
	sum := hexSum(files)
	text, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": image.Config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum}},
	})
	if err != nil {
		return "", "", err
	}
	config, content = hexSum(text)+".json", sum+".tar"
	for name, b := range map[string][]byte{config: text, content: files} {
		if l.written[name] {
			continue
		}
		l.written[name] = true
		if err := l.file(name, 0o644, b); err != nil {
			return "", "", err
		}
	}
	return config, content, nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
