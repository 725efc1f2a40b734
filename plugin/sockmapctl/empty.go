// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// emptyMeans marks flags that an empty value means something for; their usage says what.
const emptyMeans = "sockmapctl-empty-means"

// mayBeEmpty lets a flag of cmd accept an empty value.
func mayBeEmpty(cmd *cobra.Command, flag string) {
	if err := cmd.Flags().SetAnnotation(flag, emptyMeans, nil); err != nil {
		// There is no such flag: a mistake in this program.
		panic(err)
	}
}

// refuseEmpty makes empty values of flags and empty arguments wrong usage, in all commands. They come from
// variables of a script that are not set. Without a value a filter would select everything, and disable
// would mean the node.
func refuseEmpty(cmd *cobra.Command) {
	for _, flags := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		flags.VisitAll(func(f *pflag.Flag) {
			_, list := f.Value.(pflag.SliceValue)
			if !list && f.Value.Type() != "string" {
				return // what is not text is never empty
			}
			_, may := f.Annotations[emptyMeans]
			f.Value = &givenValue{f.Value, list, may}
			if f.DefValue == "[]" {
				f.DefValue = "" // the help shows no default then
			}
		})
	}
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if n := slices.IndexFunc(args, isBlank); n >= 0 {
			return fmt.Errorf("argument %d is empty", n+1)
		}
		if check == nil {
			return nil
		}
		return check(cmd, args)
	}
	for _, below := range cmd.Commands() {
		refuseEmpty(below)
	}
}

// givenValue is the value of a flag as the command line may give it.
type givenValue struct {
	pflag.Value
	list, mayBeEmpty bool
}

func (v *givenValue) Set(text string) error {
	if text == "" && v.mayBeEmpty {
		return v.Value.Set(text)
	}
	if isBlank(text) {
		return errors.New("it is empty")
	}
	if v.list {
		words, err := csv.NewReader(strings.NewReader(text)).Read()
		if err == nil && slices.ContainsFunc(words, isBlankWord) {
			return errors.New("a value in this list is empty")
		}
	}
	return v.Value.Set(text)
}

func isBlank(text string) bool { return strings.TrimSpace(text) == "" }

// isBlankWord also finds what must not fit a filter, and is nothing.
func isBlankWord(word string) bool { return isBlank(strings.TrimPrefix(word, "!")) }
