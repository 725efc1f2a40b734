// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/jsonobject"
)

// PluginType is the plugin's type in network configurations, and the name of its binary.
const PluginType = "sockmap"

// capabilities make a runtime pass the pod's cgroup and annotations.
const capabilities = `{"cgroupPath":true,"io.kubernetes.cri.pod-annotations":true}`

// Entry is the plugin's entry in a list, a JSON object without white space.
type Entry struct {
	text []byte
	// Conf is the parsed entry.
	Conf *cniconf.Conf
}

// NewEntry makes an entry from config, a JSON object with any keys of the plugin ("" is {}), and from names
// of hazards to accept in addition. The error says which values are wrong. Unknown keys are in Conf.Warnings.
func NewEntry(config string, acceptHazards []string) (Entry, error) {
	if config == "" {
		config = "{}"
	}
	text := []byte(config)
	found, err := jsonobject.Members(text)
	if err != nil {
		return Entry{}, err
	}
	object := []field{{"type", json.RawMessage(`"` + PluginType + `"`)}, {"capabilities",
		json.RawMessage(capabilities)}}
	for _, m := range found {
		switch m.Name {
		case "name", "cniVersion", "prevResult", "runtimeConfig", "ipam":
			return Entry{}, fmt.Errorf("%s: it belongs to the list or to the runtime, not to the entry (leave it out)",
				m.Name)
		}
		object = setField(object, m.Name, m.Raw)
	}
	if object, err = withAcceptedHazards(object, acceptHazards); err != nil {
		return Entry{}, err
	}
	e := Entry{text: encode(object)}
	if got := typeOf(e.text); got != PluginType {
		return Entry{}, fmt.Errorf("type: %q is not %q", got, PluginType)
	}
	e.Conf, err = cniconf.Parse(e.text)
	return e, err
}

// field is a member with its value.
type field struct {
	name  string
	value json.RawMessage
}

func setField(object []field, name string, value json.RawMessage) []field {
	i := slices.IndexFunc(object, func(f field) bool { return f.name == name })
	if i < 0 {
		return append(object, field{name, value})
	}
	object[i].value = value
	return object
}

func withAcceptedHazards(object []field, hazards []string) ([]field, error) {
	if len(hazards) == 0 {
		return object, nil
	}
	var all []string
	i := slices.IndexFunc(object, func(f field) bool { return f.name == "acceptHazards" })
	if i >= 0 && json.Unmarshal(object[i].value, &all) != nil {
		return nil, errors.New("acceptHazards: not a list of names of hazards")
	}
	for _, name := range hazards {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	value, err := json.Marshal(all)
	return setField(object, "acceptHazards", value), err
}

// encode writes an object without white space. Its values are valid JSON.
func encode(object []field) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range object {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(f.name) // a string cannot fail
		b.Write(name)
		b.WriteByte(':')
		_ = json.Compact(&b, f.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// With returns the entry with this key set.
func (e Entry) With(name string, value any) (Entry, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return Entry{}, err
	}
	found, err := jsonobject.Members(e.text)
	if err != nil {
		return Entry{}, err
	}
	var object []field
	for _, m := range found {
		object = append(object, field{m.Name, m.Raw})
	}
	e.text = encode(setField(object, name, raw))
	e.Conf, err = cniconf.Parse(e.text)
	return e, err
}

// Has reports whether the entry has a key.
func (e Entry) Has(name string) bool {
	found, err := jsonobject.Members(e.text)
	_, ok := last(found, name)
	return err == nil && ok
}

func (e Entry) String() string { return string(e.text) }

// layout formats the entry for its place after this white space: on one line, unless the white space contains
// a line break.
func (e Entry) layout(space []byte) []byte {
	at := bytes.LastIndexByte(space, '\n')
	if at < 0 {
		return e.text
	}
	prefix := string(space[at+1:])
	// Entries usually are two levels deep.
	indent := prefix[:len(prefix)/2]
	if indent == "" {
		indent = "  "
	}
	var b bytes.Buffer
	_ = json.Indent(&b, e.text, prefix, indent) // valid JSON cannot fail
	return b.Bytes()
}
