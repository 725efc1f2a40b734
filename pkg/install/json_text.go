// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/sockmap-cni/sockmap-cni/pkg/jsonobject"
)

// span is a part of a text, in bytes.
type span struct{ from, to int }

func (s span) of(text []byte) []byte { return text[s.from:s.to] }

// elements lists the positions of the elements of an array in the text.
func elements(array jsonobject.Value) ([]span, error) {
	dec := json.NewDecoder(bytes.NewReader(array.Raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return nil, errors.New("not a JSON array")
	}
	var found []span
	for dec.More() {
		e, err := jsonobject.Next(dec)
		if err != nil {
			return nil, err
		}
		from := array.At + e.At
		found = append(found, span{from, from + len(e.Raw)})
	}
	return found, nil
}

// last finds the value of a name as Go decodes maps: names match exactly, and the last one counts.
func last(found []jsonobject.Member, name string) (value jsonobject.Value, ok bool) {
	for i := len(found) - 1; i >= 0; i-- {
		if found[i].Name == name {
			return found[i].Value, true
		}
	}
	return value, false
}

// listText is a network configuration list as text.
type listText struct {
	text    []byte
	entries []span // elements of "plugins"
}

// readList finds the entries of a list. It returns errNoPlugins for a list without a key "plugins".
func readList(text []byte) (*listText, error) {
	found, err := jsonobject.Members(text)
	if err != nil {
		return nil, err
	}
	plugins, ok := last(found, "plugins")
	if !ok {
		return nil, errNoPlugins
	}
	entries, err := elements(plugins)
	if err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	return &listText{text, entries}, nil
}

var errNoPlugins = errors.New(`no key "plugins": ` +
	`its plugins come from a directory of its own (use the drop-in there)`)

// typeOf reads the type of an entry as libcni does.
func typeOf(entry []byte) string {
	var t struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(entry, &t) != nil {
		return ""
	}
	return t.Type
}

// ownEntries lists the positions of entries of this plugin.
func (l *listText) ownEntries() []int {
	var at []int
	for i, e := range l.entries {
		if typeOf(e.of(l.text)) == PluginType {
			at = append(at, i)
		}
	}
	return at
}

// splice returns the text with s replaced.
func (l *listText) splice(s span, with []byte) []byte {
	out := make([]byte, 0, len(l.text)+len(with))
	out = append(out, l.text[:s.from]...)
	out = append(out, with...)
	return append(out, l.text[s.to:]...)
}

// without returns the text without entry i, its comma and its white space.
func (l *listText) without(i int) []byte {
	switch {
	case i > 0:
		return l.splice(span{l.entries[i-1].to, l.entries[i].to}, nil)
	case len(l.entries) > 1:
		return l.splice(span{l.entries[0].from, l.entries[1].from}, nil)
	}
	return l.splice(l.entries[i], nil)
}

// with returns the text with an entry appended, in the layout of the one before it.
func (l *listText) with(e Entry) []byte {
	end := l.entries[len(l.entries)-1]
	space := l.spaceBefore(len(l.entries) - 1)
	return l.splice(span{end.to, end.to}, append(append([]byte{','}, space...), e.layout(space)...))
}

// replaced returns the text with another entry at i.
func (l *listText) replaced(i int, e Entry) []byte {
	return l.splice(l.entries[i], e.layout(l.spaceBefore(i)))
}

// spaceBefore returns the white space before entry i.
func (l *listText) spaceBefore(i int) []byte {
	end := l.entries[i].from
	return l.text[len(bytes.TrimRight(l.text[:end], " \t\r\n")):end]
}

// sameJSON reports whether two texts are the same JSON value, whatever their layout and order of keys.
func sameJSON(a, b []byte) bool {
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func decode(text []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // two large numbers that differ must not become the same float
	err = dec.Decode(&v)
	return v, err
}
