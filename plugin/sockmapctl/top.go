// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"
)

func topCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch flows or pods on the whole terminal, the busiest first",
		Long: `Shows once a second what is sent now: how much of it from socket to socket, how
much by TCP and why, and the flows or pods that send it. The keys are on the
screen; ? tells more. It needs a terminal; for scripts there is
sockmapctl flows --watch.`,
		Example: `  sockmapctl top`,
	}
	return runs(cmd, func(cmd *cobra.Command) error {
		if err := a.top(cmd.Context()); err != nil {
			return fmt.Errorf("top: %w", err)
		}
		return nil
	})
}

const topInstead = " (without one: sockmapctl flows --watch)"

// checkTerminal tells what top cannot draw on.
func (a *app) checkTerminal() error {
	out, ok := a.stdout.(*os.File)
	if !ok || !term.IsTerminal(out.Fd()) || !term.IsTerminal(os.Stdin.Fd()) {
		return errors.New("standard input and output have to be a terminal" + topInstead)
	}
	switch name := a.getenv("TERM"); name {
	case "":
		return errors.New("TERM is not set, so nobody knows what this terminal can do" + topInstead)
	case "dumb", "unknown":
		return fmt.Errorf("a terminal of type %q cannot move its cursor"+topInstead, name)
	}
	return nil
}

func (a *app) top(ctx context.Context) error {
	if err := a.checkTerminal(); err != nil {
		return err
	}
	// Signals end it like a key: the terminal is given back as it was.
	p := tea.NewProgram(newTopModel(a.sample, a.plainLetters()), tea.WithOutput(a.stdout), tea.WithoutSignalHandler())
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

// plainLetters reports whether the locale has nothing beyond ASCII.
func (a *app) plainLetters() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := a.getenv(name); v != "" {
			return v == "C" || v == "POSIX"
		}
	}
	return false // not told: over ssh the locale often gets lost, terminals that know no UTF-8 hardly exist
}
