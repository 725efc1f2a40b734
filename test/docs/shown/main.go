// SPDX-License-Identifier: Apache-2.0

// shown prints the command lines of one program that the documentation shows, each as a JSON object on a line
// of its own. The program's own tests read them, so that they need no Markdown parser in their module.
//
//	go -C test/docs run ./shown sockmapctl
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/sockmap-cni/sockmap-cni/test/docs"
)

// Line is one command line: the file that contains it, and the words after the program's name.
type Line struct {
	Path  string   `json:"path"`
	Words []string `json:"words"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: shown PROGRAM")
		os.Exit(2)
	}
	files, err := docs.Read("../..")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	out := json.NewEncoder(os.Stdout)
	for _, f := range files {
		for _, words := range f.Commands(os.Args[1]) {
			if err := out.Encode(Line{f.Path, words}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}
