// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func mkfifo(tb testing.TB, path string) {
	tb.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func TestWrongConfigurationIsRefusedBeforeAnySideEffect(t *testing.T) {
	for _, c := range []struct {
		name   string
		change keys
		code   uint
		texts  []string
	}{
		{"not chained", keys{"prevResult": nil}, 7, []string{"must be chained", ".conflist"}},
		{"prevResult null", keys{"prevResult": json.RawMessage("null")}, 7, []string{"must be chained"}},
		{"prevResult of a wrong type", keys{"prevResult": "text"}, 7,
			[]string{"prevResult", `"text"`, "an object"}},
		{"unknown value", keys{"peers": "planet"}, 7, []string{"peers", `"planet"`, "node, namespace, pod"}},
		{"several wrong values", keys{"maxSockets": -1, "enabled": "yes"}, 7, []string{"maxSockets", "enabled"}},
		{"wrong port", keys{"ports": map[string]any{"include": []string{"80", "x"}}}, 7,
			[]string{"ports.include[1]"}},
		{"no cniVersion", keys{"cniVersion": nil}, 1, []string{"0.3.0", "1.1.0"}},
		{"cniVersion 0.1.0", keys{"cniVersion": "0.1.0"}, 1, []string{"plugin chains", "0.3.0", "0.1.0"}},
		{"cniVersion 0.2.0", keys{"cniVersion": "0.2.0"}, 1, []string{"plugin chains", "0.3.0", "0.2.0"}},
		{"cniVersion of the future", keys{"cniVersion": "9.0.0"}, 1, []string{"9.0.0", "1.1.0"}},
		{"no name", keys{"name": nil}, 7, []string{"network name"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			log := filepath.Join(t.TempDir(), "log")
			c.change["logFile"] = log
			a := w.add(w.pod(), c.change)
			expectCode(t, a, c.code, c.texts...)
			var told struct{ CNIVersion string }
			if err := json.Unmarshal([]byte(a.stdout), &told); err != nil || told.CNIVersion == "" {
				t.Errorf("the error %q has no cniVersion: %v", a.stdout, err)
			}
			w.expectUntouched()
			if _, err := os.Stat(log); err == nil {
				t.Error("the log file was made")
			}
		})
	}
}

func TestMalformedJSONIsADecodingError(t *testing.T) {
	w := newWorld(t)
	for name, stdin := range map[string]string{"nothing": "", "half an object": `{"name":`, "a list": "[]"} {
		t.Run(name, func(t *testing.T) {
			expectCode(t, run(t, env("ADD", w.pod()), []byte(stdin)), 6)
		})
	}
}

func TestNoContainersNetNSIsRefusedBeforeAnySideEffect(t *testing.T) {
	for name, path := range map[string]string{
		"the host's": "/proc/self/ns/net", "the host's under another name": bindOwnNetNS(t),
		"missing": "/proc/there-is-none", "no namespace": "/etc/passwd",
	} {
		for mode, change := range map[string]keys{
			"best effort": {}, "required": {"required": true}, "opted out": {"enabled": false},
		} {
			t.Run(name+", "+mode, func(t *testing.T) {
				w := newWorld(t)
				log := filepath.Join(t.TempDir(), "log")
				change["logFile"] = log
				p := w.pod()
				expectCode(t, run(t, append(env("ADD", p), "CNI_NETNS="+path), w.conf(p, change)), 8, path)
				w.expectUntouched()
				if _, err := os.Stat(log); err == nil {
					t.Error("the log file was made")
				}
			})
		}
	}
	t.Run("another kind of namespace", func(t *testing.T) {
		w := newWorld(t)
		p := w.pod()
		expectCode(t, run(t, append(env("ADD", p), "CNI_NETNS=/proc/self/ns/uts"), w.conf(p, nil)), 8, "uts")
		w.expectUntouched()
	})
}

// bindOwnNetNS makes another path of the network namespace in which the plugin runs.
func bindOwnNetNS(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	if err := os.WriteFile(path, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

func TestMissingVariablesAreNamed(t *testing.T) {
	w := newWorld(t)
	for _, verb := range []string{"ADD", "DEL", "CHECK"} {
		a := run(t, []string{"CNI_COMMAND=" + verb, "CNI_PATH=/"}, w.conf(nil, nil))
		expectCode(t, a, 4, "CNI_CONTAINERID", "CNI_IFNAME")
	}
	expectCode(t, run(t, env("DANCE", nil), w.conf(nil, nil)), 4, "DANCE")
}
