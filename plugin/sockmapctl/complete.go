// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/spf13/cobra"
)

// complete offers the shell the words that a flag accepts.
func complete(cmd *cobra.Command, flag string, words []string) {
	completeWith(cmd, flag, func() []string { return words })
}

// completeWith calls words when the shell asks for them. In a list it completes the last value.
func completeWith(cmd *cobra.Command, flag string, words func() []string) {
	err := cmd.RegisterFlagCompletionFunc(flag,
		func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			before := typed[:strings.LastIndexByte(typed, ',')+1]
			if strings.HasPrefix(typed[len(before):], "!") { // of a filter: what must not fit
				before += "!"
			}
			var found []string
			for _, w := range words() {
				if w = before + w; strings.HasPrefix(w, typed) {
					found = append(found, w)
				}
			}
			return found, cobra.ShellCompDirectiveNoFileComp
		})
	if err != nil {
		// There is no such flag: a mistake in this program.
		panic(fmt.Sprintf("completion of --%s: %v", flag, err))
	}
}

// podNames are the pods of all attachments. There are none while nothing is loaded.
func (a *app) podNames() []string {
	return a.ofOwners(func(o live.Owner) string { return live.PodName(o.Namespace, o.Pod) })
}

func (a *app) namespaceNames() []string {
	return a.ofOwners(func(o live.Owner) string { return o.Namespace })
}

func (a *app) ofOwners(name func(live.Owner) string) []string {
	d, err := datapath.Open(a.dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	own, err := live.ReadOwners(d)
	if err != nil {
		return nil
	}
	found := map[string]bool{}
	for _, o := range own {
		if n := name(o); n != "" {
			found[n] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
