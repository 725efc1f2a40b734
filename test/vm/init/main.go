// SPDX-License-Identifier: Apache-2.0

// Init is the first and only process of the test guest. It prepares what a booted host has (file systems,
// modules, loopback), runs the programs of the manifest one after the other, sends their output and files to
// the host, and turns the guest off.
//
// It uses a serial line of its own, because the first is the kernel's console. Every kernel has both without
// a module, unlike virtio.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"golang.org/x/sys/unix"
)

func main() {
	if os.Args[0] == enterName {
		fmt.Fprintln(os.Stderr, "init:", enterRoot(os.Args[1:]))
		os.Exit(127)
	}
	// The guest must end in any case, because nobody can log in to look.
	defer powerOff()
	// The port's device node is created by devtmpfs.
	mounted := mountAll()
	port, err := openPort(frame.ResultPort(runtime.GOARCH))
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		return
	}
	g := guest{out: frame.NewWriter(port)}
	g.hello()
	g.problem(mounted)
	stopLog := g.streamKernelLog()
	if err := g.run(); err != nil {
		g.problem(err)
	}
	stopLog()
	g.out.Send(frame.Frame{Kind: frame.Bye})
	if err := drain(port); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
}

// guest is this machine, as init sees it.
type guest struct {
	out *frame.Writer
}

func (g guest) hello() {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		g.problem(err)
	}
	g.out.Send(frame.Frame{Kind: frame.Hello, Text: unix.ByteSliceToString(name.Release[:])})
}

// problem sends an error of init to the host. It ignores a nil error.
func (g guest) problem(err error) {
	if err != nil {
		g.out.Send(frame.Frame{Kind: frame.Problem, Text: err.Error()})
	}
}

func (g guest) run() error {
	data, err := os.ReadFile(frame.ManifestPath)
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	var m frame.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("parse manifest: %w", err)
	}
	for _, module := range m.Modules {
		g.problem(loadModule(module))
	}
	g.problem(configure())
	for _, p := range m.Programs {
		g.runProgram(p)
	}
	return nil
}

// powerOff does not return.
func powerOff() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	// Without ACPI the machine cannot be turned off. The host notices a reboot, too.
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	time.Sleep(time.Hour)
}
