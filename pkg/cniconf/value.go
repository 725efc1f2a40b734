// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
)

// value is the value of a key. Its methods either set the whole field, or reject the value and leave the
// field unchanged, so that ParseLenient never returns half a value.
type value struct {
	*parser
	key     string // as a path: ports.include[2]
	allowed string
	raw     json.RawMessage
}

func (v value) reject() {
	v.wrong = append(v.wrong, &FieldError{Key: v.key, Value: shown(v.raw), Allowed: v.allowed})
}

// item is the element of a list.
func (v value) item(i int, raw json.RawMessage, allowed string) value {
	return value{v.parser, fmt.Sprintf("%s[%d]", v.key, i), allowed, raw}
}

// list returns the elements, or false after a rejection.
func (v value) list() ([]json.RawMessage, bool) {
	var items []json.RawMessage
	if err := json.Unmarshal(v.raw, &items); err != nil {
		v.reject()
		return nil, false
	}
	return items, true
}

func (v value) boolean(field *bool) {
	switch string(v.raw) {
	case "true":
		*field = true
	case "false":
		*field = false
	default:
		v.reject()
	}
}

// number accepts digits only: a fraction or an exponent is more likely a mistake than intended.
func (v value) number(field *uint32, low, high uint32) {
	n, err := strconv.ParseUint(string(v.raw), 10, 32)
	if err != nil || uint32(n) < low || uint32(n) > high {
		v.reject()
		return
	}
	*field = uint32(n)
}

// str returns a JSON string's content; false for every other type, null included.
func str(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

func (v value) text(field *string) {
	s, ok := str(v.raw)
	if !ok {
		v.reject()
		return
	}
	*field = s
}

// oneOf sets field to the value where it is one of those allowed, and rejects it otherwise.
func oneOf[T ~string](v value, field *T, allowed ...T) {
	s, _ := str(v.raw)
	if !slices.Contains(allowed, T(s)) {
		v.reject()
		return
	}
	*field = T(s)
}

func (v value) logLevel() {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	s, _ := str(v.raw)
	level, ok := levels[s]
	if !ok {
		v.reject()
		return
	}
	v.conf.LogLevel = level
}

// prevResult keeps the bytes. It checks only that they are an object: other plugins wrote its content.
func (v value) prevResult() {
	if v.raw[0] != '{' {
		v.reject()
		return
	}
	v.conf.PrevResult = v.raw
}

// pathMax is the kernel's PATH_MAX without the NUL: a longer path would fail later, with a worse error.
const pathMax = 4095

// notRoot: as a cgroup, "/" would attach the program to every process of the node.
func notRoot(clean string) bool { return clean != "/" }

// noDots: the kernel returns EPERM for a name with a dot on bpffs, an error that does not name the cause.
func noDots(clean string) bool { return clean != "/" && !strings.Contains(clean, ".") }

// path sets field to the cleaned path. "" means none, if optional.
func (v value) path(field *string, optional bool, fits func(clean string) bool) {
	s, ok := str(v.raw)
	switch {
	case ok && s == "" && optional:
		*field = ""
	case ok && usablePath(s) && fits(path.Clean(s)):
		*field = path.Clean(s)
	default:
		v.reject()
	}
}

// usablePath refuses ".." even where it stays inside, because path.Clean and the kernel disagree on it as
// soon as a component is a symbolic link.
func usablePath(s string) bool {
	return path.IsAbs(s) && len(s) <= pathMax && !strings.ContainsRune(s, 0) &&
		!slices.Contains(strings.Split(s, "/"), "..")
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// shownMax bounds how much of a wrong value gets into an error, in bytes.
const shownMax = 80

// shown formats a JSON value for an error: on one line, cut when it is long.
func shown(raw json.RawMessage) string {
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return strconv.Quote(cut(string(raw)))
	}
	return cut(line.String())
}

// quoted formats a string from outside.
func quoted(s string) string { return strconv.Quote(cut(s)) }

func cut(s string) string {
	if len(s) > shownMax {
		s = s[:shownMax] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
