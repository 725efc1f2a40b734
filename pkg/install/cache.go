// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
)

// CachedAttachment is an attachment for which a runtime may call DEL with a cached configuration.
type CachedAttachment struct {
	File        string // of the cache
	Network     string
	ContainerID string
	IfName      string
}

func (a CachedAttachment) String() string {
	if a.ContainerID == "" {
		return a.File
	}
	return a.Network + "/" + a.ContainerID + "/" + a.IfName
}

// CachedAttachments lists the attachments in libcni's cache whose configuration contains this plugin. dir is
// the parent of "results". If it does not exist, that is an error: it may only be invisible from here.
func CachedAttachments(dir string) ([]CachedAttachment, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("read the cache of attachments: %w", err)
	}
	var found []CachedAttachment
	// Multus keeps the configurations for its DELs in a directory beside it, one list of delegates for each
	// container.
	for _, sub := range []string{"results", "multus"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the cache of attachments: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, sub, e.Name())
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) || e.IsDir() {
				continue // a DEL has removed it
			}
			if err != nil {
				return nil, fmt.Errorf("read the cache of attachments: %w", err)
			}
			if a, ok := namesUs(path, text); ok {
				found = append(found, a)
			}
		}
	}
	return found, nil
}

// namesUs reports whether a file of the cache names this plugin. If the file has an unknown format, it
// searches the text for the name.
func namesUs(path string, text []byte) (CachedAttachment, bool) {
	var c struct {
		Kind        string `json:"kind"`
		ContainerID string `json:"containerId"`
		Config      []byte `json:"config"`
		IfName      string `json:"ifName"`
		NetworkName string `json:"networkName"`
	}
	named := []byte(`"` + PluginType + `"`)
	if err := json.Unmarshal(text, &c); err != nil || c.Kind != libcni.CNICacheV1 {
		return CachedAttachment{File: path}, bytes.Contains(text, named)
	}
	a := CachedAttachment{path, c.NetworkName, c.ContainerID, c.IfName}
	list, err := libcni.ConfListFromBytes(c.Config)
	if err != nil {
		return a, bytes.Contains(c.Config, named)
	}
	for _, p := range list.Plugins {
		if p.Network.Type == PluginType {
			return a, true
		}
	}
	return a, false
}
