// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
)

// roleVariable in the environment makes Main remove cgroups once its parent has ended.
const roleVariable = "SOCKMAP_BENCH_ROLE"

// Main runs the code of a child process that Run started, and then ends the process. In other processes it
// returns at once.
func Main() {
	wire.Main()
	if os.Getenv(roleVariable) == "" {
		return
	}
	if err := sweep(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func janitor(paths []string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", paths...)
	cmd.Env = []string{roleVariable + "=janitor"}
	return cmd
}
