// SPDX-License-Identifier: Apache-2.0

// Command pause keeps a pod's namespaces until a signal ends it, as the pause container of a cluster does.
package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGINT, unix.SIGTERM)
	<-ended
}
