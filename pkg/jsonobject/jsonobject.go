// SPDX-License-Identifier: Apache-2.0

// Package jsonobject reads a JSON object member by member, with the bytes of each value and their place.
// encoding/json into a struct would lose what its users need: names count as written (it would take "Enabled"
// for "enabled"), unknown and repeated names are seen, and a text can be edited without a change elsewhere.
package jsonobject

import (
	"bytes"
	"encoding/json"
	"errors"
)

// ErrNotObject is the error for JSON that is another kind of value.
var ErrNotObject = errors.New("not a JSON object")

// Value is a JSON value with its position in the text.
type Value struct {
	Raw json.RawMessage
	At  int // bytes from the beginning of the text to the value
}

// Member is one name of an object, and its value.
type Member struct {
	Name string
	Value
}

// Members lists the members of the object that is the whole text, in their order. A repeated name is listed
// each time. The error is a *json.SyntaxError with the place, or ErrNotObject.
func Members(text []byte) ([]Member, error) {
	if !json.Valid(text) {
		var v any
		return nil, json.Unmarshal(text, &v)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, ErrNotObject
	}
	var found []Member
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, ErrNotObject
		}
		value, err := Next(dec)
		if err != nil {
			return nil, err
		}
		found = append(found, Member{name, value})
	}
	return found, nil
}

// Next reads the next value of dec. The decoder keeps the bytes of a value, so its place follows from its
// end.
func Next(dec *json.Decoder) (Value, error) {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return Value{}, err
	}
	return Value{raw, int(dec.InputOffset()) - len(raw)}, nil
}
