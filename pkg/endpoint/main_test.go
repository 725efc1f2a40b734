// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// patience bounds every wait that is expected to succeed.
const patience = 10 * time.Second

// call describes a process of this test binary that makes one call.
type call struct {
	Verb    string // add, del, reap or upgrade
	Dir     string
	Root    string // of /proc and /sys; empty: "/"
	Sandbox Sandbox
	Want    Want
	Kill    string // at this step
	Skip    int    // how often that step passes before
	Version string // of the process; empty: that of the test
}

func TestMain(m *testing.M) {
	probe.Main()
	fixture.Call(call.run)
	fixture.Main(m)
}

func (c call) run() error {
	datapath.Conversions[0] = fromABI0
	n := &Node{Dir: c.Dir, Root: c.Root, Settings: versioned(cmp.Or(c.Version, defaults.Version)),
		Step: func(step string) error {
			if step == c.Kill {
				if c.Skip == 0 {
					unix.Kill(os.Getpid(), unix.SIGKILL)
					select {}
				}
				c.Skip--
			}
			return nil
		}}
	var err error
	switch c.Verb {
	case "add":
		_, err = n.Add(context.Background(), c.Sandbox, c.Want)
	case "del":
		err = n.Del(context.Background(), c.Sandbox.Network, c.Sandbox.ContainerID, c.Sandbox.IfName)
	case "upgrade":
		_, err = n.Upgrade(context.Background())
	case "reap":
		_, err = n.Reap(context.Background())
	default:
		err = fmt.Errorf("unknown verb %q", c.Verb)
	}
	return err
}

// command returns c as a process that has not been started.
func (c call) command(t testing.TB) *exec.Cmd {
	t.Helper()
	return fixture.Command(t, patience, c)
}

// killed runs c and fails unless it is killed at its step.
func (c call) killed(t testing.TB) {
	t.Helper()
	if killed, err := fixture.Killed(c.command(t)); !killed {
		t.Fatalf("%s was not killed at step %q: %v", c.Verb, c.Kill, err)
	}
}
