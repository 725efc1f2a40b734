// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

func TestErrorsCarryTheVersionOfTheRequest(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	at := func(version string, change keys) []byte {
		change["cniVersion"] = version
		return w.conf(p, change)
	}
	for _, c := range []struct {
		name  string
		env   []string
		stdin []byte
		code  uint
		want  string
	}{
		{"wrong value", env("ADD", p), at("0.3.1", keys{"peers": "x"}), 7, "0.3.1"},
		{"not chained", env("ADD", p), at("0.4.0", keys{"prevResult": nil}), 7, "0.4.0"},
		{"no name", env("ADD", p), at("1.0.0", keys{"name": nil}), 7, "1.0.0"},
		{"a version without chains", env("ADD", p), at("0.2.0", keys{}), 1, "0.2.0"},
		{"no GC in this version", env("GC", p), at("1.0.0", keys{}), 1, "1.0.0"},
		{"missing variables", []string{"CNI_COMMAND=ADD"}, at("0.4.0", keys{}), 4, "0.4.0"},
		{"unknown command", env("DANCE", p), at("0.4.0", keys{}), 4, "0.4.0"},
		{"half an object", env("ADD", p), []byte(`{"cniVersion": "0.4.0", "name":`), 6, "0.4.0"},
		{"no version", env("ADD", p), []byte(`{"name": 7}`), 6, "1.1.0"},
		{"a version that is no text", env("ADD", p), []byte(`{"cniVersion": 1, "name": "n"}`), 6, "1.1.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := run(t, c.env, c.stdin)
			expectCode(t, a, c.code)
			var told struct{ CNIVersion string }
			if err := json.Unmarshal([]byte(a.stdout), &told); err != nil || told.CNIVersion != c.want {
				t.Errorf("the error is of cniVersion %q, want %q: %s", told.CNIVersion, c.want, a.stdout)
			}
		})
	}
}

// A large configuration goes to skel through a pipe whose buffer is smaller.
func TestALargeConfigurationIsReadWhole(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	large := strings.Repeat("x", 1<<20)
	prev := fmt.Sprintf(`{"cniVersion":"1.1.0","x":%q}`, large)
	a := w.add(p, keys{"prevResult": json.RawMessage(prev)})
	if a.err != nil || a.stdout != prev {
		t.Errorf("ADD: %v, %d bytes, want %d\n%s", a.err, len(a.stdout), len(prev), a.stderr)
	}
}

// oneDocument fails unless text is exactly one JSON object.
func oneDocument(tb testing.TB, text string) {
	tb.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	var first map[string]any
	if err := d.Decode(&first); err != nil {
		tb.Fatalf("standard output %q: %v", text, err)
	}
	if err := d.Decode(&first); !errors.Is(err, io.EOF) {
		tb.Errorf("after the first document there is more: %q", text)
	}
}

func TestAShortageOfDescriptorsIsNamedInOneDocument(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	for _, limit := range []int{4, 5, 6, 7, 8, 9, 10, 12, 16, 18, 20, 24, 32, 40, 48} {
		few := script(t, fmt.Sprintf("exec /usr/bin/prlimit --nofile=%d %%s", limit))
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			a := w.runWith(few, "ADD", p, nil)
			oneDocument(t, a.stdout)
			if a.err != nil || a.stdout != compact(prevResult) {
				t.Errorf("ADD: %v, %q", a.err, a.stdout)
			}
			expectTexts(t, "the log", a.stderr, "not accelerated", "too few file descriptors",
				fmt.Sprintf("may have %d ", limit), "LimitNOFILE")
			a = w.runWith(few, "ADD", p, keys{"required": true})
			oneDocument(t, a.stdout)
			expectCode(t, a, decline.Resources.Code(), "too few file descriptors")
			if a := w.runWith(few, "DEL", p, nil); a.err != nil || a.stdout != "" {
				t.Errorf("DEL: %v, %q", a.err, a.stdout)
			}
		})
	}
	few := script(t, "exec /usr/bin/prlimit --nofile=96 %s")
	if a := w.runWith(few, "ADD", p, nil); a.err != nil {
		t.Error(a.err)
	}
	w.expectAccelerated(p)
}

func TestErrorNamesTheMissingProc(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	w.mustAdd(w.pod(), nil)
	noProc := inPrivateMounts(t, "umount -l /proc")
	a := w.runWith(noProc, "ADD", p, nil)
	oneDocument(t, a.stdout)
	if a.err != nil || a.stdout != compact(prevResult) {
		t.Errorf("ADD: %v, %q", a.err, a.stdout)
	}
	expectTexts(t, "the log", a.stderr, "/proc")
	a = w.runWith(noProc, "ADD", p, keys{"required": true})
	expectCode(t, a, types.ErrInternal, "is /proc mounted?")
}

func TestThePrevResultIsInTheVersionOfTheRequest(t *testing.T) {
	w := newWorld(t)
	const old = `{"cniVersion":"0.4.0","interfaces":[{"name":"eth0"}],"ips":[{"version":"4","interface":0,"address":"10.0.0.2/24"}]}`
	a := w.add(w.pod(), keys{"cniVersion": "1.1.0", "prevResult": json.RawMessage(old)})
	oneDocument(t, a.stdout)
	var got struct {
		CNIVersion string
		IPs        []map[string]any
	}
	if err := json.Unmarshal([]byte(a.stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.CNIVersion != "1.1.0" || len(got.IPs) != 1 || got.IPs[0]["address"] != "10.0.0.2/24" ||
		got.IPs[0]["version"] != nil {
		t.Errorf("the result is %s", a.stdout)
	}
	for _, same := range []string{`{"ips":[],"zz":1}`, `{"cniVersion":"9.9.9","x":12345678901234567890}`,
		`{"cniVersion":"1.1.0","x":1.0}`} {
		if a := w.add(w.pod(), keys{"prevResult": json.RawMessage(same)}); a.err != nil || a.stdout != same {
			t.Errorf("of %s comes %v, %s", same, a.err, a.stdout)
		}
	}
}

func TestCNIPathIsOptional(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		vars := slices.DeleteFunc(env(verb, p), func(v string) bool { return strings.HasPrefix(v, "CNI_PATH=") })
		if a := run(t, vars, w.conf(p, nil)); a.err != nil {
			t.Errorf("%s without CNI_PATH: %v", verb, a.err)
		}
	}
	w.expectAccelerated()
}

// No variable in the environment of a runtime makes the plugin do anything but the call.
func TestNoEnvironmentVariableMakesThePluginProbe(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	a := run(t, env("ADD", p, "SOCKMAP_HAZARD_PROBE=1"), w.conf(p, nil))
	if a.err != nil || a.stdout != compact(prevResult) {
		t.Errorf("ADD: %v, %q", a.err, a.stdout)
	}
	w.expectAccelerated(p)
}

func TestAPanicIsAnError(t *testing.T) {
	h := &handler{stderr: t.Output(), began: time.Now()}
	failed := h.recoverPanic(func() *types.Error {
		return types.NewError(0, (*skel.CmdArgs)(nil).ContainerID, "")
	})
	if failed == nil || failed.Code != types.ErrInternal || !strings.Contains(failed.Msg, "panic: ") {
		t.Errorf("a panic gives %v", failed)
	}
}
