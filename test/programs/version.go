// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

var versionText = regexp.MustCompile(`\d+\.\d+[\w.:+~-]*`)

// unknown is the prefix of the version of a program that did not print it.
const unknown = "unknown"

// describe asks the program for its version. If a program cannot run on this processor, it returns the
// reason.
func (e end) describe(ctx context.Context) (d End, notRun string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d = End{Program: e.program, Note: e.note}
	out, err := exec.CommandContext(ctx, "sh", "-c", e.version+" 2>&1").CombinedOutput()
	if d.Version = versionText.FindString(string(out)); d.Version == "" {
		d.Version = fmt.Sprintf("%s (%v)", unknown, err)
	}
	if info, _ := os.ReadFile("/proc/cpuinfo"); diedOf(err, syscall.SIGILL) && !hasFlag(string(info), "cx16") {
		return d, "emulator without cmpxchg16b"
	}
	return d, ""
}

// diedOf reports whether a signal has ended a command, or a program that a shell ran for it.
func diedOf(err error, signal syscall.Signal) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && (status.Signaled() && status.Signal() == signal || status.ExitStatus() == 128+int(signal))
}

// hasFlag reports whether a processor of /proc/cpuinfo has a flag.
func hasFlag(info, flag string) bool {
	for line := range strings.Lines(info) {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			return strings.Contains(" "+strings.TrimSpace(flags)+" ", " "+flag+" ")
		}
	}
	return false
}
