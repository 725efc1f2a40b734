// SPDX-License-Identifier: Apache-2.0

// Recorder replaces a plugin in a runtime's directory, under the plugin's name. It records how it was called,
// in the file calls next to it, and executes the real plugin, in the directory real next to it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/recorded"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "recorder:", err)
		os.Exit(1)
	}
}

func run() error {
	// The path by which it was called: /proc/self/exe would follow links.
	here, name := filepath.Split(os.Args[0])
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	call := recorded.Call{
		Plugin: name, Command: os.Getenv("CNI_COMMAND"), ContainerID: os.Getenv("CNI_CONTAINERID"),
		NetNS: os.Getenv("CNI_NETNS"), IfName: os.Getenv("CNI_IFNAME"), Args: os.Getenv("CNI_ARGS"),
	}
	if err := json.Unmarshal(stdin, &call.Conf); err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	line, err := json.Marshal(call)
	if err != nil {
		return fmt.Errorf("encode call: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(here, "calls"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("record call: %w", err)
	}
	if _, err := f.Write(append(line, '\n')); err != nil { // in one write: other plugins may append, too
		return fmt.Errorf("record call: %w", err)
	}
	if err := again(stdin); err != nil {
		return err
	}
	real := filepath.Join(here, "real", name)
	return fmt.Errorf("become %s: %w", real, unix.Exec(real, os.Args, os.Environ()))
}

// again makes b the beginning of the standard input.
func again(b []byte) error {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("keep configuration: %w", err)
	}
	f := os.NewFile(uintptr(fd), "stdin")
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("keep configuration: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("keep configuration: %w", err)
	}
	if err := unix.Dup2(fd, 0); err != nil {
		return fmt.Errorf("keep configuration: %w", err)
	}
	return nil
}
