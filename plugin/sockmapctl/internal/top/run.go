// SPDX-License-Identifier: Apache-2.0

package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"
)

const instead = " (without one: sockmapctl flows --watch)"

// Run shows what read returns, once a second, on the terminal of stdout and the standard input, until the
// user quits or ctx ends.
func Run(ctx context.Context, stdout io.Writer, getenv func(string) string, read func() Sample) error {
	if err := checkTerminal(stdout, getenv); err != nil {
		return err
	}
	// Signals end it like the key q, and the terminal is restored.
	p := tea.NewProgram(newModel(read, plainLetters(getenv)), tea.WithOutput(stdout),
		tea.WithoutSignalHandler())
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
			p.Quit()
		case <-ended:
		}
	}()
	_, err := p.Run()
	return err
}

// checkTerminal returns an error for a terminal that top cannot draw on.
func checkTerminal(stdout io.Writer, getenv func(string) string) error {
	out, ok := stdout.(*os.File)
	if !ok || !term.IsTerminal(out.Fd()) || !term.IsTerminal(os.Stdin.Fd()) {
		return errors.New("standard input and output have to be a terminal" + instead)
	}
	switch name := getenv("TERM"); name {
	case "":
		return errors.New("TERM is not set, so nobody knows what this terminal can do" + instead)
	case "dumb", "unknown":
		return fmt.Errorf("a terminal of type %q cannot move its cursor"+instead, name)
	}
	return nil
}

// plainLetters reports whether the locale is limited to ASCII.
func plainLetters(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			return v == "C" || v == "POSIX"
		}
	}
	return false // not told: over ssh the locale often gets lost, terminals that know no UTF-8 hardly exist
}
