// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

// inGuest reports whether the tests run in a guest of test/vm. There every facility must be found, a sysctl
// of the whole kernel may be set, and everything takes longer.
func inGuest() bool { return os.Getenv(frame.GuestVariable) != "" }
