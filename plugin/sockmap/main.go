// SPDX-License-Identifier: Apache-2.0

// Command sockmap is a chained CNI plugin. The runtime calls it for each container, after the plugins that
// make the network. It lets TCP between containers of one node go directly from socket to socket. It does not
// change the network, and passes on the result of the plugins before it.
//
// Its entry in the conflist configures it, see docs/CONFIGURATION.md. A container that cannot be accelerated
// starts nevertheless, unless the entry says "required": true.
package main

import (
	"os"
	"time"

	cniversion "github.com/containernetworking/cni/pkg/version"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
)

// Chains of plugins exist since 0.3.0. A runtime drops a network whose exact version is not in this list.
var supported = cniversion.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

func main() {
	probe.Main()
	h := &handler{began: time.Now(), stdout: os.Stdout, stderr: os.Stderr, probe: probe.AtLoad}
	verb := os.Getenv("CNI_COMMAND")
	os.Exit(h.finish(verb, h.serve(verb)))
}
