// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"io"
	"os"
)

// AtLoad is the probe for datapath.Settings. The main function of the program must begin with Main.
func AtLoad(attach func(cgroup *os.File) (io.Closer, error),
	names ...string) (hazards, guarded uint32, err error) {
	f, err := Run(context.Background(), attach, names...)
	if err != nil {
		return 0, 0, err
	}
	present, cured := f.Sets()
	return uint32(present), uint32(cured), nil
}
