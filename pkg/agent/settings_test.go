// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"time"
)

// Linux 5.15 and 5.16 (and a size that there is no memory for): settings that cannot come into force must keep nothing else
// from coming: programs of this version, its plugin, what pods follow.
func TestASizeThatCannotBeHadKeepsNothingElseBack(t *testing.T) {
	p := newPlace(t)
	p.Version = "v1.3.0"
	p.loadAs(t, "v1.2.9")
	binary, content := p.putPlugin(t)
	p.write(file, list)
	tries := 0
	r := p.start(func(a *Agent) {
		a.Recheck = 100 * time.Millisecond
		a.Node.SettingsCount = true
		a.Node.Settings.MaxSockets *= 2
		a.Node.Step = func(name string) error {
			if name == "publish" {
				tries++
				return errors.New("exchange state directories: not supported: bpffs of this kernel cannot exchange two directories")
			}
			return nil
		}
	})
	time.Sleep(8 * time.Second)
	code, text := r.get(t, "/readyz?verbose")
	t.Logf("/readyz %d %s", code, text)
	if code != http.StatusOK {
		t.Error("the agent is not ready")
	}
	if v := p.config(t).Version; v != "v1.3.0" {
		t.Errorf("version %s is loaded still", v)
	}
	if bytes.Equal(mustRead(t, binary), content) {
		t.Error("the plugin of this version is not installed")
	}
	t.Logf("%d states were built and thrown away in 8 s", tries)
	if !r.Agent.keeper.mayAct() {
		t.Error("running pods do not follow their configuration, and are not adopted")
	}
}
