// SPDX-License-Identifier: Apache-2.0

package frame

import "time"

// The paths in the guest at which the host puts what init needs, and at which programs find and leave their
// files.
const (
	ManifestPath = "/vm/manifest.json"
	SourceRoot   = "/src" // the packed part of the repository
	OutRoot      = "/out" // has one directory per program, which the program finds in VM_OUT
	// GuestVariable is set in the environment of programs in a guest. It is not set for programs that the
	// host runs itself.
	GuestVariable = "VM_GUEST"
	SummaryFile   = "summary.txt" // in that directory: reports show its first line, and the counts
)

// resultPorts are the serial lines over which init sends frames, by the architecture's name in Go.
var resultPorts = map[string]string{"amd64": "/dev/ttyS1", "arm64": "/dev/ttyS0"}

// ResultPort is the device of the serial line from init to the host. It is empty for an unknown architecture.
func ResultPort(arch string) string { return resultPorts[arch] }

// Manifest is the list of modules to load and programs to run, for init.
type Manifest struct {
	Modules  []string  `json:"modules"` // paths, each after the modules that it needs
	Programs []Program `json:"programs"`
}

// Program is a program to run. Programs run one after the other.
type Program struct {
	Name    string        `json:"name"` // unique, and a plain file name
	Path    string        `json:"path"`
	Args    []string      `json:"args,omitempty"`
	Dir     string        `json:"dir"`
	Env     []string      `json:"env,omitempty"`
	Timeout time.Duration `json:"timeout"`
	Root    bool          `json:"root,omitempty"` // its root is the Debian system on the guest's disk
}
