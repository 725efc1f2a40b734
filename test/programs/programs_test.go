// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestCheckHashesAcceptsWholeBodiesOnly(t *testing.T) {
	good := fmt.Sprintf("%x", sha256.Sum256(body()))
	other := fmt.Sprintf("%x", sha256.Sum256(body()[1:]))
	for out, want := range map[string]string{
		good + "\n" + good + "  -\n":   "",
		good + "\n":                    "got 1 bodies, want 2",
		good + "\n" + other + "\n":     "body 2 of 2 is another one",
		"warning\n" + good + "\n":      "body 1 of 2 is another one",
		strings.Repeat(good+"\n", 3):   "got 3 bodies, want 2",
		"":                             "got 0 bodies",
		good + "\n\n" + good + "\nx\n": "body 2 of 2",
	} {
		err := checkHashes(out, 2)
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", out, err, want)
		}
	}
}

func TestLastingReasonsHidePassingReasons(t *testing.T) {
	peer := sent{reasons: map[string]uint64{"unread": 9, "early": 1}, results: map[string]uint64{"joined": 1}}
	if got := reasonsOf(sent{}, peer); !slices.Equal(got, []string{"message: unread", "message: early"}) {
		t.Error(got)
	}
	peer.reasons["pages"] = 1
	if got := reasonsOf(sent{results: map[string]uint64{"blocking": 1, "remote": 1}}, peer); !slices.Equal(got,
		[]string{"connection: blocking", "message: pages"}) {
		t.Error(got)
	}
}

func report() *Report {
	return &Report{Guards: []string{"blocking"}, Cases: []Case{
		{
			Name: "x", Client: End{Program: "get", Version: "1.2", Sockets: 2, Blocking: 2, Received: 100,
				Reasons: []string{"connection: blocking"}},
			Server: End{Program: "serve", Version: "3.4", Sockets: 1, Received: 100, Redirected: 99},
		},
	}}
}

func TestVerdicts(t *testing.T) {
	for name, change := range map[string]struct {
		do   func(*Report)
		want string
	}{
		"good":    {func(*Report) {}, ""},
		"no case": {func(r *Report) { r.Cases = nil }, "no case"},
		"failed":  {func(r *Report) { r.Cases[0].Error = "hangs" }, "1 of 1 failed"},
		"accelerated against a hazard": {func(r *Report) { r.Off = []string{"splice"} },
			"99 bytes were redirected"},
		"off and nothing is redirected": {func(r *Report) {
			r.Off, r.Cases[0].Server.Redirected = []string{"splice"}, 0
		}, ""},
		"on and nothing is redirected": {func(r *Report) { r.Cases[0].Server.Redirected = 0 },
			"nothing was redirected"},
	} {
		r := report()
		change.do(r)
		err := r.verdict(io.Discard)
		if (change.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), change.want)) {
			t.Errorf("%s: %v, want %q", name, err, change.want)
		}
	}
	var out bytes.Buffer
	r := report()
	r.Cases[0].Error = "hangs"
	_ = r.verdict(&out)
	if !strings.Contains(out.String(), "DOES NOT FAIL ON PLAIN TCP") {
		t.Errorf("a case that fails only accelerated is not reported:\n%s", out.String())
	}
}

func TestTableOfAReportFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "programs.json")
	if err := report().write(file); err != nil {
		t.Fatal(err)
	}
	r, err := readReport(file)
	if err != nil {
		t.Fatal(err)
	}
	off := report()
	off.Off, off.Cases[0].Server.Redirected = []string{"splice"}, 0
	want := `1 of 1 clients, and 0 of 1 servers, wait inside receive calls or connect with a blocking descriptor.

| program | version | end | talks to | 6.1: off, splice | 7 | why not all of it | what changes that |
|---|---|---|---|---|---|---|---|
| get | 1.2 | client | serve | none | none | connection: blocking | ` +
		"a client that connects with O_NONBLOCK, or see *blocking* above |\n" +
		"| serve | 3.4 | server | get | none | **nearly all** |  |  |\n"
	if got := table([]kernelReport{{"6.1", off}, {"7", r}}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestVersionsAreParsedFromOutputOfPrograms(t *testing.T) {
	for said, want := range map[string]string{
		"Redis server v=7.0.15 sha=00000000":           "7.0.15",
		"OpenSSH_9.2p1 Debian-2, OpenSSL 3.0.17":       "9.2p1",
		"nginx version: nginx/1.22.1":                  "1.22.1",
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0)": "15.18",
		"openjdk version \"17.0.15\" 2025-04-15":       "17.0.15",
		"rsync  version 3.2.7  protocol version 31":    "3.2.7",
		"curl: not found":                              "",
	} {
		if got := versionText.FindString(said); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}

func TestAProgramThatTheProcessorCannotRunIsNotRun(t *testing.T) {
	for script, want := range map[string]bool{
		"kill -ILL $$": true, "sh -c 'kill -ILL $$'; exit $?": true, "kill -SEGV $$": false, "exit 1": false,
		"true": false,
	} {
		if err := exec.Command("sh", "-c", script).Run(); diedOf(err, syscall.SIGILL) != want {
			t.Errorf("%s: %v", script, err)
		}
	}
	const info = "processor\t: 0\nflags\t\t: fpu cx8 cx16x sse\nbugs\t\t: cx16\n"
	if hasFlag(info, "cx16") || !hasFlag(info, "sse") || !hasFlag(info, "fpu") || hasFlag("", "fpu") {
		t.Error("flags")
	}
	r := report()
	r.Cases[0] = Case{Name: "x", NotRun: "emulator without cmpxchg16b"}
	if err := r.verdict(io.Discard); err == nil || !strings.Contains(err.Error(), "no case") {
		t.Errorf("a run of nothing: %v", err)
	}
	if got := table([]kernelReport{{"7", r}}); strings.Count(got,
		"| not run: emulator without cmpxchg16b |") != 2 {
		t.Error(got)
	}
}

func TestOnlyReportsOfAllCasesAreKept(t *testing.T) {
	from, into := t.TempDir(), t.TempDir()
	part, whole := report(), report()
	for _, c := range cases() {
		whole.Cases = append(whole.Cases, Case{Name: c.name})
	}
	for name, r := range map[string]*Report{"6.12": whole, "6.1": whole, "7": part} {
		dir := filepath.Join(from, name, "programs")
		if err := errors.Join(os.MkdirAll(dir, 0o755), r.write(filepath.Join(dir, "programs.json"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := keep([]string{from}, into, "abc"); err == nil || !strings.Contains(err.Error(), "kernel 7") {
		t.Error(err)
	}
	all, err := load(into)
	if err != nil || len(all) != 2 || all[0].name != "6.1" || all[1].name != "6.12" || all[1].Commit != "abc" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestALaterRunOfACaseReplacesIt(t *testing.T) {
	list := cases()
	earlier := &Report{Cases: []Case{{Name: list[0].name, Error: "old"}, {Name: list[2].name}}}
	later := &Report{Kernel: "k", Cases: []Case{{Name: list[1].name}, {Name: list[0].name, Error: "new"}}}
	got := later.over(earlier)
	if got.Kernel != "k" || len(got.Cases) != 3 || got.Cases[0].Error != "new" ||
		got.Cases[1].Name != list[1].name ||
		got.Cases[2].Name != list[2].name {
		t.Errorf("%+v", got)
	}
}

func TestNamesOfCasesAreDifferent(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cases() {
		if seen[c.name] || c.port == 0 || c.server.version == "" || c.client.version == "" {
			t.Errorf("%+v", c)
		}
		seen[c.name] = true
	}
}
