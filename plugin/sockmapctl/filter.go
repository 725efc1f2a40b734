// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

// filterHelp describes the filters of a command with these aspects.
func filterHelp(aspects live.Aspect) string {
	list, not := "--pod shop/web-0,shop/db-0", "--pod '!shop/db-0'"
	if aspects&live.ByPort != 0 {
		list, not = "--port 80,443,8000-8100", "--port '!22', "+not
	}
	text := "A filter takes a list with commas, such as " + list + ", and may be given several times. One " +
		"value of the list has to fit, and every filter. A value with ! in front must not fit: " + not + "."
	if aspects.TwoEnds() {
		text += " Pods and addresses may be those of either end; -n and --pod are about the same end."
	}
	return term.Fill(text, 80)
}

// filterFlags gives cmd the filter's flags for these aspects, and its description a paragraph about them.
// Errors of the values come before the command runs.
func (a *app) filterFlags(cmd *cobra.Command, f *live.Filter, aspects live.Aspect) {
	cmd.Long += "\n\n" + filterHelp(aspects)
	for i := range live.Fields {
		field := &live.Fields[i]
		if field.Aspect&aspects == 0 {
			continue
		}
		cmd.Flags().StringSliceVarP(f.Values(field.Name), field.Name, field.Short, nil,
			field.UsageFor(aspects))
		words := field.Words
		switch field.Name {
		case "pod":
			words = a.podNames
		case "namespace":
			words = a.namespaceNames
		}
		if words != nil {
			completeWith(cmd, field.Name, words)
		}
	}
	if aspects&live.ByOwner != 0 {
		all := cmd.Flags().BoolP("all-namespaces", "A", false,
			"all namespaces, which is the default without -n")
		before(cmd, func() error {
			if *all && len(*f.Values("namespace")) > 0 {
				return errors.New("--all-namespaces: --namespace is given, too; only one of them is accepted")
			}
			return nil
		})
	}
	before(cmd, f.Check)
}

// sortFlag gives cmd --sort-by, whose values are the keys of order.
func sortFlag[T any](cmd *cobra.Command, key *string, order live.Order[T], usual string) {
	cmd.Flags().StringVar(key, "sort-by", usual, "`KEY`: "+term.OrList(order.Names())+
		"; numbers: largest first")
	before(cmd, func() error { return order.Check(*key) })
	complete(cmd, "sort-by", order.Names())
}
