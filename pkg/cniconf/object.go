// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"bytes"
	"encoding/json"
	"errors"
)

// member is one name and value of a JSON object. Objects are read member by member, not into structs: names
// count as written (encoding/json would take "Enabled" for "enabled"), unknown and repeated ones are seen,
// and the bytes of each value are kept.
type member struct {
	name  string
	value json.RawMessage
}

// document checks that all of stdin is one JSON object and returns its members in order.
func document(stdin []byte) ([]member, error) {
	var whole json.RawMessage
	if err := json.Unmarshal(stdin, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, syntaxError(stdin, syntax.Offset, err)
		}
		return nil, syntaxError(stdin, 0, err)
	}
	found, ok := members(whole)
	if !ok {
		return nil, syntaxError(stdin, 0, errNotObject)
	}
	return found, nil
}

// members returns false when raw, which must be valid JSON, is not an object.
func members(raw json.RawMessage) ([]member, bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	var found []member
	for dec.More() {
		token, err := dec.Token()
		name, isString := token.(string)
		if err != nil || !isString {
			return nil, false
		}
		m := member{name: name}
		if err := dec.Decode(&m.value); err != nil {
			return nil, false
		}
		found = append(found, m)
	}
	return found, true
}
