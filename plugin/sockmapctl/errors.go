// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/selinux"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"golang.org/x/sys/unix"
)

// The exit codes. The help of the root command lists them.
const (
	exitOK = iota
	exitError
	exitUsage
	exitNotLoaded
	exitForeign
	exitHazards // or the kill switch, which keeps everything on TCP, too
)

// failure is an error of the work of a command, in contrast to one of its usage.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// printedError is an error that is on standard output already: only its exit code is left to return.
type printedError struct{ error }

func (p printedError) Unwrap() error { return p.error }

// report prints err for a person and returns the exit code.
func report(e env, command string, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	// The reader of the pipe has closed it.
	if errors.Is(err, unix.EPIPE) {
		return code
	}
	if printed := (printedError{}); errors.As(err, &printed) {
		return code
	}
	text := selinux.Explain(err).Error()
	if out := wayOut(e, command, err); out != "" && !strings.HasSuffix(text, ")") {
		text += " (" + out + ")"
	}
	// The error may quote names that others chose: of files, cgroups, containers.
	fmt.Fprintf(e.stderr, "sockmapctl: %s\n", term.PrintableLines(text))
	return code
}

func exitCode(err error) int {
	var (
		f       *failure
		hazards *endpoint.HazardError
	)
	switch {
	case !errors.As(err, &f):
		return exitUsage
	case errors.Is(err, datapath.ErrForeignState):
		return exitForeign
	case errors.Is(err, datapath.ErrNotLoaded):
		return exitNotLoaded
	case errors.As(err, &hazards), errors.Is(err, endpoint.ErrDisabled):
		return exitHazards
	}
	return exitError
}

// wayOut is the advice for errors that do not have it in their text.
func wayOut(e env, command string, err error) string {
	var f *failure
	switch {
	case !errors.As(err, &f):
		return "see: " + command + " --help"
	case errors.Is(err, datapath.ErrNotLoaded):
		return "load it with: sockmapctl load, or add a container"
	case errors.Is(err, fs.ErrPermission) && !e.host.root:
		return "run as root"
	}
	return ""
}
