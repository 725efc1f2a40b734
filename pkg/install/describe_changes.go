// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/jsonobject"
)

// Changes describes for a log how another component has changed a configuration: before is the content that
// this package wrote, after what it found. The kernel does not say who made the change, but the change itself
// often does.
func Changes(before, after []byte) string {
	if after == nil {
		return "the file was removed"
	}
	if len(bytes.TrimSpace(after)) == 0 {
		return "the file was emptied"
	}
	was, errWas := jsonobject.Members(before)
	is, errIs := jsonobject.Members(after)
	if errIs != nil {
		return fmt.Sprintf("the file is no JSON object any more: %v", errIs)
	}
	if errWas != nil {
		return "the file was rewritten"
	}
	var changes []string
	for _, m := range is {
		if m.Name == "plugins" {
			continue
		}
		old, there := last(was, m.Name)
		switch {
		case !there:
			changes = append(changes, fmt.Sprintf("key %q was added", m.Name))
		case !sameJSON(old.Raw, m.Raw):
			changes = append(changes, fmt.Sprintf("key %q was changed from %s to %s", m.Name, shorten(old.Raw),
				shorten(m.Raw)))
		}
	}
	for _, m := range was {
		if _, there := last(is, m.Name); !there {
			changes = append(changes, fmt.Sprintf("key %q was removed", m.Name))
		}
	}
	changes = append(changes, pluginChanges(before, after)...)
	if len(changes) == 0 {
		return "the same was written again"
	}
	return strings.Join(changes, "; ")
}

// pluginChanges compares entries by their types, and entries of the same type by their order.
func pluginChanges(before, after []byte) (changes []string) {
	was, is := byType(before), byType(after)
	for _, e := range is {
		i := slices.IndexFunc(was, func(o entryText) bool { return o.name == e.name })
		switch {
		case i < 0:
			changes = append(changes, fmt.Sprintf("plugin %q was added", e.name))
		case !sameJSON(was[i].text, e.text):
			changes = append(changes, fmt.Sprintf("plugin %q was changed", e.name))
		}
	}
	for _, e := range was {
		if !slices.ContainsFunc(is, func(o entryText) bool { return o.name == e.name }) {
			changes = append(changes, fmt.Sprintf("plugin %q was removed", e.name))
		}
	}
	return changes
}

type entryText struct {
	name string // the type, with a number if it occurs more than once
	text []byte
}

func byType(text []byte) (all []entryText) {
	l, err := readList(text)
	if err != nil {
		return nil
	}
	seen := map[string]int{}
	for _, e := range l.entries {
		name := typeOf(e.of(text))
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s (%d)", name, seen[name])
		}
		all = append(all, entryText{name, e.of(text)})
	}
	return all
}

func shorten(value []byte) string {
	const most = 60
	if len(value) > most {
		return string(value[:most]) + "..."
	}
	return string(value)
}
