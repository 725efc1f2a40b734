// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/report/summary"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// The programs of manifest.json whose output files are read for facts, not only their exit status.
const (
	doctorProgram      = "doctor"      // sockmapctl doctor with every hazard accepted
	defaultProgram     = "default"     // a part of the conformance suite with none accepted
	conformanceProgram = "conformance" // the whole suite with every hazard accepted
)

// facts are the facts about a kernel that a run has found. They do not change from run to run.
type facts struct {
	Hazards []finding `json:"hazards,omitempty"`
	Guards  []guard   `json:"guards,omitempty"`
	// Open are the severe hazards that no guard cures: by default nothing is accelerated where there are any.
	Open        []string        `json:"open,omitempty"`
	Conformance *summary.Counts `json:"conformance,omitempty"`
}

// finding and guard are entries of the output of sockmapctl doctor.
type finding struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Severity string `json:"severity"`
}

type guard struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	Hook   string `json:"hook"`
	Why    string `json:"why"`
}

// examine reads the facts from the files that the programs wrote, as far as they ran. A contradiction, with
// each other or with wanted, is a problem.
func (o *outcome) examine(wanted *kernel.Wanted) {
	for _, r := range o.Programs {
		if r.Status == nil || !slices.Contains([]string{doctorProgram, defaultProgram, conformanceProgram},
			r.Name) {
			continue
		}
		if err := o.examineProgram(r, wanted); err != nil {
			o.problem("%s: %v", r.Name, err)
		}
	}
}

func (o *outcome) examineProgram(r *result, wanted *kernel.Wanted) error {
	if r.Name == doctorProgram {
		if err := o.Facts.readDoctor(r.output.String()); err != nil {
			return err
		}
		if wanted == nil {
			return nil // nothing is expected of this machine's kernel
		}
		return o.Facts.check(*wanted)
	}
	f, err := os.Open(filepath.Join(o.dir, r.Name, "conformance.json"))
	if err != nil {
		return fmt.Errorf("read its files: %w", err)
	}
	defer f.Close()
	report, err := suite.ReadReport(f)
	if err != nil {
		return err
	}
	if r.Name == defaultProgram {
		return o.Facts.checkDefault(report, r.output.String())
	}
	counts := summary.Of(report)
	o.Facts.Conformance = &counts
	return nil
}

func (f *facts) readDoctor(output string) error {
	var said struct {
		Hazards []finding
		Guards  []guard
	}
	if err := json.NewDecoder(strings.NewReader(output)).Decode(&said); err != nil {
		return fmt.Errorf("parse its output: %w", err)
	}
	if len(said.Hazards) == 0 || len(said.Guards) == 0 {
		return fmt.Errorf("its output has %d hazards and %d guards", len(said.Hazards), len(said.Guards))
	}
	f.Hazards, f.Guards = said.Hazards, said.Guards
	for _, h := range f.Hazards {
		if h.State == "accepted" {
			f.Open = append(f.Open, h.Name)
		}
	}
	return nil
}

// check compares the facts with the kernel's line of kernels.txt.
func (f *facts) check(wanted kernel.Wanted) error {
	for _, name := range wanted.Guards {
		i := slices.IndexFunc(f.Guards, func(g guard) bool { return g.Name == name })
		if i < 0 {
			return fmt.Errorf("there is no guard %s, which kernels.txt wants for kernel %s", name, wanted.Name)
		}
		if g := f.Guards[i]; !g.Active {
			return fmt.Errorf("the guard %s does not run, although kernels.txt wants it for kernel %s: %s", name,
				wanted.Name, g.Why)
		}
	}
	got, want := slices.Sorted(slices.Values(f.Open)), slices.Sorted(slices.Values(wanted.Open))
	if !slices.Equal(got, want) {
		return fmt.Errorf("by default kernel %s is kept on TCP by %s, but kernels.txt says %s",
			wanted.Name, list(got), list(want))
	}
	return nil
}

// checkDefault compares the redirected bytes of the run without accepted hazards with the probes: nothing may
// be redirected where a severe hazard is open, and that hazard must be the reason.
func (f *facts) checkDefault(r *suite.Report, output string) error {
	var redirected uint64
	for _, c := range r.Cases {
		redirected += c.Carried.Redirected
	}
	reason := "nothing is accelerated: this kernel has " + strings.Join(f.Open, ", ")
	switch {
	case len(r.Cases) == 0 || r.Accepted:
		return fmt.Errorf("%d cases, hazards accepted: %v; that shows nothing of the default", len(r.Cases),
			r.Accepted)
	case f.Hazards == nil:
		return fmt.Errorf("%s has not reported the open hazards", doctorProgram)
	case len(f.Open) == 0 && redirected == 0:
		return fmt.Errorf("nothing was redirected, although no severe hazard is open")
	case len(f.Open) > 0 && redirected > 0:
		return fmt.Errorf("%d bytes were redirected, although %s is open", redirected, list(f.Open))
	case len(f.Open) > 0 && !strings.Contains(output, reason+"\n"):
		return fmt.Errorf("the reason %q is not given", reason)
	}
	return nil
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
