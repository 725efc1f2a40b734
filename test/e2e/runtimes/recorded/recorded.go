// SPDX-License-Identifier: Apache-2.0

// Package recorded has the calls of a plugin by a runtime, as cmd/recorder records them.
package recorded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// A Call of a plugin: its environment, and the parts of its configuration that this project reads.
type Call struct {
	Plugin, Command, ContainerID, NetNS, IfName, Args string
	Conf                                              Conf
}

// Conf is a part of the configuration of a plugin.
type Conf struct {
	CNIVersion    string `json:"cniVersion"`
	Name          string `json:"name"`
	RuntimeConfig struct {
		CgroupPath  *string           `json:"cgroupPath"`
		Annotations map[string]string `json:"io.kubernetes.cri.pod-annotations"`
	} `json:"runtimeConfig"`
	Valid *[]Attachment `json:"cni.dev/valid-attachments"`
}

// Attachment is an element of GC's list of valid attachments.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// Calls reads the calls that the recorder in the directory bin has recorded so far.
func Calls(bin string) ([]Call, error) {
	b, err := os.ReadFile(filepath.Join(bin, "calls"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	var calls []Call
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var c Call
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return calls, nil
		} else if err != nil {
			return nil, fmt.Errorf("read calls: %w", err)
		}
		calls = append(calls, c)
	}
}

// Commands lists each command once, in the order in which they were first seen.
func Commands(calls []Call) (commands []string) {
	for _, c := range calls {
		if !slices.Contains(commands, c.Command) {
			commands = append(commands, c.Command)
		}
	}
	return commands
}
