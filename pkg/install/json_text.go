// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// span is a part of a text, in bytes.
type span struct{ from, to int }

func (s span) of(text []byte) []byte { return text[s.from:s.to] }

// member is a name of a JSON object and the position of its value.
type member struct {
	name  string
	value span
}

var errNotObject = errors.New("not a JSON object")

// members lists the members of the object in text, in their order and including repeated names.
func members(text []byte) ([]member, error) {
	if !json.Valid(text) {
		var v any
		return nil, json.Unmarshal(text, &v) // the error contains the position
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, errNotObject
	}
	var found []member
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errNotObject
		}
		value, err := next(dec)
		if err != nil {
			return nil, err
		}
		found = append(found, member{name, value})
	}
	return found, nil
}

// elements lists the positions of the elements of an array, which is the part s of text.
func elements(text []byte, s span) ([]span, error) {
	dec := json.NewDecoder(bytes.NewReader(s.of(text)))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return nil, errors.New("not a JSON array")
	}
	var found []span
	for dec.More() {
		e, err := next(dec)
		if err != nil {
			return nil, err
		}
		found = append(found, span{s.from + e.from, s.from + e.to})
	}
	return found, nil
}

// next reads one value and returns its position. The decoder keeps the bytes of the value, so its start
// follows from its end.
func next(dec *json.Decoder) (span, error) {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return span{}, err
	}
	end := int(dec.InputOffset())
	return span{end - len(raw), end}, nil
}

// last finds the value of a name as Go decodes maps: names match exactly, and the last one counts.
func last(found []member, name string) (span, bool) {
	for i := len(found) - 1; i >= 0; i-- {
		if found[i].name == name {
			return found[i].value, true
		}
	}
	return span{}, false
}

// listText is a network configuration list as text.
type listText struct {
	text    []byte
	entries []span // elements of "plugins"
}

// readList finds the entries of a list. It returns errNoPlugins for a list without a key "plugins".
func readList(text []byte) (*listText, error) {
	found, err := members(text)
	if err != nil {
		return nil, err
	}
	plugins, ok := last(found, "plugins")
	if !ok {
		return nil, errNoPlugins
	}
	entries, err := elements(text, plugins)
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
