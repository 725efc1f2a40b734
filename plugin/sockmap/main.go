// SPDX-License-Identifier: Apache-2.0

// Command sockmap is a chained CNI plugin: the runtime calls it for each container, after the plugins that make the
// network, and it makes TCP between containers of one node go from socket to socket. Networks are not changed, and
// the result of the plugins before it is passed on as it is.
//
// It is configured by its entry in the conflist, see docs/CONFIGURATION.md. A container that cannot be accelerated
// starts all the same, unless the entry says "required": true.
package main

import (
	"os"
	"time"

	cniversion "github.com/containernetworking/cni/pkg/version"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
)

// Chains of plugins begin with 0.3.0. A runtime drops a network whose exact version is not listed here.
var supported = cniversion.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

func main() {
	probe.Main()
	h := &handler{began: time.Now(), stdout: os.Stdout, stderr: os.Stderr, probe: probe.AtLoad}
	verb := os.Getenv("CNI_COMMAND")
	os.Exit(h.finish(verb, h.serve(verb)))
}
