// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
)

// docs/JSON.md promises that a version of the documents only gets new fields. The file has all fields that
// there have ever been: -update only adds to it.
func TestFieldsOfDocumentsStay(t *testing.T) {
	var now []string
	all := documentedViews()
	all["docs tree"] = &treeView{}
	for command, v := range all {
		now = append(now, fieldsOf(command, reflect.TypeOf(v).Elem(), nil)...)
	}
	slices.Sort(now)
	file := filepath.Join("testdata", strings.ReplaceAll(apiVersion, "/", "-")+".fields")
	text, err := os.ReadFile(file)
	if err != nil && !*golden.Update {
		t.Fatal(err)
	}
	promised := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, field := range promised {
		if field != "" && !slices.Contains(now, field) {
			t.Errorf("%s is promised by %s and is gone: keep it, or begin another version", field, file)
		}
	}
	for _, field := range now {
		if !slices.Contains(promised, field) {
			promised = append(promised, field)
			if !*golden.Update {
				t.Errorf("%s is new: go test ./plugin/sockmapctl -run %s -update", field, t.Name())
			}
		}
	}
	if *golden.Update {
		slices.Sort(promised)
		if err := os.WriteFile(file, []byte(strings.TrimSpace(strings.Join(promised, "\n"))+"\n"),
			0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fieldsOf lists paths with their types. outer are the types on the way, for those that contain themselves.
func fieldsOf(path string, typ reflect.Type, outer []reflect.Type) (fields []string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Kind() == reflect.Slice {
			path += "[]"
		}
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || slices.Contains(outer, typ) || jsonType(typ) != "object" {
		return nil
	}
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		fields = append(fields, path+"."+name+" "+jsonType(inner))
		fields = append(fields, fieldsOf(path+"."+name, f.Type, append(outer, typ))...)
	}
	return fields
}
