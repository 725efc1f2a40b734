// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// stateDirsOf lists the state directories that the entries of this plugin in a list name. An entry that the plugin refuses
// has loaded nothing anywhere.
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

// stateDirOf is that of one entry; empty where the plugin refuses the entry.
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
	dir string // empty: Removal.Node's
}

// statesToUnload lists Removal.Node and those of other entries that were taken out, each once.
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

// explainError says which directory it was. Its entry is gone, so a second uninstall does not find it by itself.
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
