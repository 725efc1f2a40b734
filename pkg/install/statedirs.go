// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// stateDirsOf lists the state directories of this plugin's entries in a list. An entry that the plugin
// refuses has loaded nothing.
func stateDirsOf(list []byte) (dirs []string) {
	l, err := readList(list)
	if err != nil {
		return nil
	}
	for _, at := range l.ownEntries() {
		if dir := stateDirOf(l.entries[at].of(l.text)); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// stateDirOf returns the state directory of one entry, or "" if the plugin refuses the entry.
func stateDirOf(entry []byte) string {
	conf, err := cniconf.Parse(entry)
	if err != nil {
		return ""
	}
	return conf.BPFFSPath
}

// stateToUnload is one state directory to be unloaded.
type stateToUnload struct {
	Node
	dir string // empty: that of Removal.Node
}

// statesToUnload lists Removal.Node and the state directories of other removed entries, each once.
func (r Removal) statesToUnload(dirs []string) (all []stateToUnload) {
	if r.Node != nil {
		all = append(all, stateToUnload{r.Node, ""})
	}
	if r.NodeAt == nil {
		return all
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if node := r.NodeAt(dir); node != nil {
			all = append(all, stateToUnload{node, dir})
		}
	}
	return all
}

// explainError adds the state directory to an error. Its entry is gone, so a second uninstall would not find
// it.
func (u stateToUnload) explainError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case u.dir == "":
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s at %s: %w (then: sockmapctl --bpffs-path %s unload)", what, u.dir, err, u.dir)
}

func (u stateToUnload) addTo(unloaded bool, done *Removed) {
	switch {
	case !unloaded:
	case u.dir == "":
		done.Unloaded = true
	default:
		done.UnloadedFrom = append(done.UnloadedFrom, u.dir)
	}
}
