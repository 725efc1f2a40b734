// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/pkg/jsonobject"
)

// document checks that all of stdin is one JSON object and returns its members in order.
func document(stdin []byte) ([]jsonobject.Member, error) {
	found, err := jsonobject.Members(stdin)
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return found, nil
	case errors.As(err, &syntax):
		return nil, syntaxError(stdin, syntax.Offset, err)
	}
	return nil, syntaxError(stdin, 0, err)
}

// members returns false when raw, which must be valid JSON, is not an object.
func members(raw json.RawMessage) ([]jsonobject.Member, bool) {
	found, err := jsonobject.Members(raw)
	return found, err == nil
}
