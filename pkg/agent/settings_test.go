// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// On Linux 5.15 and 5.16, or with too little memory for the size, settings cannot come into force. That must
// not delay anything else: the programs of this version, its plugin, and changes that pods follow.
func TestFailedResizeDoesNotDelayOtherChanges(t *testing.T) {
	p := newPlace(t)
	p.Version = "v1.3.0"
	p.loadAs(t, "v1.2.9")
	binary, content := p.putPlugin(t)
	p.write(file, list)
	var tries atomic.Int64
	r := p.start(func(a *Agent) {
		a.Recheck = 100 * time.Millisecond
		a.Node.SettingsCount = true
		a.Node.Settings.MaxSockets *= 2
		a.Node.Step = func(name string) error {
			if name == "publish" {
				tries.Add(1)
				return errors.New("exchange state directories: not supported: bpffs of this kernel cannot exchange two directories")
			}
			return nil
		}
	})
	eventually(t, "the settings have failed", func() bool { return tries.Load() > 0 })
	eventually(t, "the agent is ready", func() bool { return r.ready(t) })
	eventually(t, "the programs of this version are loaded",
		func() bool { return p.config(t).Version == "v1.3.0" })
	eventually(t, "the plugin of this version is installed",
		func() bool { return !bytes.Equal(mustRead(t, binary), content) })
	eventually(t, "running pods follow their configuration, and are adopted", r.Agent.keeper.mayAct)
}
