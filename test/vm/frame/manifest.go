// SPDX-License-Identifier: Apache-2.0

package frame

import "time"

// Where the host puts what init needs, and where programs find and leave their things, as paths in the guest.
const (
	ManifestPath = "/vm/manifest.json"
	SourceRoot   = "/src" // the packed part of the repository
	OutRoot      = "/out" // below it one directory per program, named in the program's environment as VM_OUT
	// GuestVariable is set in the environment of programs in a guest, not of those that the host runs itself.
	GuestVariable = "VM_GUEST"
	SummaryFile   = "summary.txt" // in that directory: its first line is what reports say of the program beside the counts
)

// resultPorts are the serial lines over which init speaks, by the architecture's name in Go.
var resultPorts = map[string]string{"amd64": "/dev/ttyS1", "arm64": "/dev/ttyS0"}

// ResultPort is the device of the line over which init speaks to the host; empty where none is known.
func ResultPort(arch string) string { return resultPorts[arch] }

// Manifest tells init what to do.
type Manifest struct {
	Modules  []string  `json:"modules"` // paths, each after those that it needs
	Programs []Program `json:"programs"`
}

// Program is one thing to run. Programs run one after the other.
type Program struct {
	Name    string        `json:"name"` // unique, and a plain file name
	Path    string        `json:"path"`
	Args    []string      `json:"args,omitempty"`
	Dir     string        `json:"dir"`
	Env     []string      `json:"env,omitempty"`
	Timeout time.Duration `json:"timeout"`
	Root    bool          `json:"root,omitempty"` // its root is the Debian system on the guest's disk
}
