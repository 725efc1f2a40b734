// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/spf13/cobra"
)

// removalFlags describe the removal of the plugin. uninstall and agent have them.
type removalFlags struct {
	cacheDirs []string
	drain     time.Duration
}

// linger is how long an ADD that has begun may take until it calls the plugin.
const linger = 2 * time.Second

func (f *removalFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.cacheDirs, "cni-cache-dir", []string{install.DefaultCacheDir},
		"`DIRS` of the cache that runtimes run DEL from; empty: none do")
	mayBeEmpty(cmd, "cni-cache-dir")
	cmd.Flags().DurationVar(&f.drain, "drain-timeout", 30*time.Second,
		"`TIME` that readers have to read redirected bytes")
	before(cmd, func() error { return notNegative("--drain-timeout", f.drain) })
}

func (f *removalFlags) removal(a *app) install.Removal {
	return install.Removal{
		Node: a.node(datapath.Settings{}), NodeAt: a.nodeAt, CacheDirs: f.cacheDirs, DrainFor: f.drain,
		LingerFor: linger,
	}
}

// nodeAt is this machine with another state directory; nil if dir is the one of this run.
func (a *app) nodeAt(dir string) install.Node {
	if dir == a.dir {
		return nil
	}
	n := a.node(datapath.Settings{})
	n.Dir = dir
	return n
}

func notNegative(flag string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s: %v is negative", flag, d)
	}
	return nil
}
