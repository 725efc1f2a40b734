// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// fileEntry is the plugin's entry as the file has it, checked.
type fileEntry struct {
	node   *yaml.Node
	order  []string
	values map[string]json.RawMessage
}

// newEntry reads the value of the key entry. It is stricter than the plugin, which ignores keys that it does
// not know: no container depends on this file, and a misspelt key would have no effect on any.
func (c *configFile) newEntry(node *yaml.Node) (*fileEntry, error) {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	e := &fileEntry{node: node, values: map[string]json.RawMessage{}}
	if node.ShortTag() == "!!null" {
		return e, nil
	}
	if node.Kind != yaml.MappingNode {
		const text = "%s: %s is not keys with values, such as \"peers: namespace\""
		return nil, c.at(node, text, entryKey, shownNode(node))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, node := node.Content[i], node.Content[i+1]
		if _, again := e.values[key.Value]; again {
			return nil, c.at(key, "%s.%s: it is there twice (leave one out)", entryKey, key.Value)
		}
		var value any
		err := node.Decode(&value)
		if err != nil {
			return nil, c.at(node, "%s.%s: %w", entryKey, key.Value, err)
		}
		if e.values[key.Value], err = json.Marshal(value); err != nil {
			return nil, c.at(node, "%s.%s: it cannot be written as JSON: %w", entryKey, key.Value, err)
		}
		e.order = append(e.order, key.Value)
	}
	entry, err := install.NewEntry(e.json(), nil)
	if err != nil {
		return nil, c.blameEntry(e, err)
	}
	var wrong []error
	for _, warning := range entry.Conf.Warnings {
		wrong = append(wrong, c.ofWarning(e, warning))
	}
	return e, errors.Join(wrong...)
}

// json is the entry without type and capabilities, in the order of the file.
func (e *fileEntry) json() string {
	var members []string
	for _, key := range e.order {
		name, _ := json.Marshal(key) // of a string, it cannot fail
		members = append(members, string(name)+":"+string(e.values[key]))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// set adds a member, or changes its value.
func (e *fileEntry) set(key string, value json.RawMessage) {
	if _, there := e.values[key]; !there {
		e.order = append(e.order, key)
	}
	e.values[key] = value
}

// drop removes a member.
func (e *fileEntry) drop(key string) {
	delete(e.values, key)
	e.order = slices.DeleteFunc(e.order, func(name string) bool { return name == key })
}

// blameEntry adds file, line and key to the errors of the entry.
func (c *configFile) blameEntry(e *fileEntry, err error) error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for i, one := range all {
		var field *cniconf.FieldError
		key, _, _ := strings.Cut(one.Error(), ": ")
		if errors.As(one, &field) {
			key = field.Key
		}
		all[i] = c.at(e.find(key), "%s.%w", entryKey, one)
	}
	return errors.Join(all...)
}

var unknownKey = regexp.MustCompile(`^unknown key "(.*)" is ignored(.*)$`)

// ofWarning returns an error for a warning of the plugin.
func (c *configFile) ofWarning(e *fileEntry, warning string) error {
	m := unknownKey.FindStringSubmatch(warning)
	if m == nil {
		return c.at(e.node, "%s: %s", entryKey, warning)
	}
	out := m[2]
	if out == "" {
		out = " (keys: " + strings.Join(cniconf.KeyNames(), ", ") + ")"
	}
	return c.at(e.find(m[1]), "%s.%s: unknown key%s", entryKey, m[1], out)
}

var pathStep = regexp.MustCompile(`[^.\[\]]+`)

// find returns the node at a path such as ports.include[2], or the nearest above it.
func (e *fileEntry) find(path string) *yaml.Node {
	at := e.node
	for _, step := range pathStep.FindAllString(path, -1) {
		next := (*yaml.Node)(nil)
		switch at.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(at.Content); i += 2 {
				if at.Content[i].Value == step {
					next = at.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			var n int
			if _, err := fmt.Sscan(step, &n); err == nil && n < len(at.Content) {
				next = at.Content[n]
			}
		}
		if next == nil {
			return at
		}
		at = next
	}
	return at
}

// makeEntry combines the entry of the file with the flags; for each key the flag wins.
func (f *installFlags) makeEntry(a *app, cmd *cobra.Command) (install.Entry, error) {
	given, err := install.NewEntry(f.config, f.accepted.names)
	if err != nil {
		return given, fmt.Errorf("--config: %w", err)
	}
	if f.file.entry == nil {
		return given, nil
	}
	of := map[string]json.RawMessage{}
	if f.config != "" {
		if err := json.Unmarshal([]byte(f.config), &of); err != nil {
			return given, fmt.Errorf("--config: %w", err)
		}
	}
	if _, both := of["bpffsPath"]; !both && a.dirGiven(cmd) {
		f.file.entry.drop("bpffsPath")
	}
	for _, key := range slices.Sorted(maps.Keys(of)) {
		f.file.entry.set(key, of[key])
	}
	return install.NewEntry(f.file.entry.json(), f.accepted.names)
}

// dirGiven reports whether a flag or the environment names the state directory.
func (a *app) dirGiven(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("bpffs-path") || a.getenv(pathVariable) != ""
}

// useDir takes the state directory from the file, for commands that make no entry.
func (c *configFile) useDir(a *app, cmd *cobra.Command) error {
	if c.entry == nil || a.dirGiven(cmd) {
		return nil
	}
	entry, err := install.NewEntry(c.entry.json(), nil)
	if err == nil {
		a.dir = entry.Conf.BPFFSPath
	}
	return err
}

// packagedPlugin is where packages install the plugin, relative to the directory above this program's.
const packagedPlugin = "libexec/sockmap-cni/" + install.PluginType

// pluginFor returns the plugin that belongs to the program at self: beside it, or where packages install it.
func pluginFor(self string) string {
	dir := filepath.Dir(self)
	beside := filepath.Join(dir, install.PluginType)
	packaged := filepath.Join(filepath.Dir(dir), packagedPlugin)
	if _, err := os.Stat(beside); err != nil {
		if _, err := os.Stat(packaged); err == nil {
			return packaged
		}
	}
	return beside
}
