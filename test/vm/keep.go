// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// counts are the numbers of tests.
type counts struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed,omitempty"`
	Skipped int `json:"skipped,omitempty"`
}

// kept is the directory in the repository with the results of kernels that run seldom, one file for each.
func (o *options) kept() string { return filepath.Join(o.root, "test", "vm", "results") }

// keep is the command that copies the outcomes of kernels that run seldom from a directory of results to the
// repository. The documents use them until the next such run.
func keep(out io.Writer, args []string) error {
	o := newOptions("vm keep")
	if err := o.parse(args); err != nil {
		return err
	}
	if o.flags.NArg() != 1 {
		return errors.New("keep the results of which directory?")
	}
	if o.names == "" {
		o.kernels = o.all
	}
	for _, name := range namesOf(o.kernels, false) {
		if err := keepOne(out, o.flags.Arg(0), o.kept(), name); err != nil {
			return err
		}
	}
	return nil
}

// keepOne skips a kernel that did not run, and refuses one whose run has failed.
func keepOne(out io.Writer, from, to, name string) error {
	outcomes, err := readOutcomes(from, []string{name})
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(out, "kernel %s: no new results\n", name)
		return nil
	} else if err != nil {
		return err
	}
	o := outcomes[0]
	if !o.Passed {
		return fmt.Errorf("keep results of kernel %s: not everything passed", name)
	}
	data, err := json.MarshalIndent(o.reduced(), "", "\t")
	if err != nil {
		return fmt.Errorf("encode results of kernel %s: %w", name, err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("keep results of kernel %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(to, name+".json"), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("keep results of kernel %s: %w", name, err)
	}
	fmt.Fprintf(out, "kernel %s: kept the results of %s at %s\n", name, o.Date, o.Commit)
	return nil
}

// reduced has the numbers of the tests instead of their names.
func (o *outcome) reduced() *outcome {
	r := *o
	r.Programs = nil
	for _, p := range o.Programs {
		passed, failed, skipped := p.count()
		r.Programs = append(r.Programs, &result{
			Name: p.Name, Status: p.Status, Summary: p.Summary, Counts: &counts{passed, failed, skipped},
		})
	}
	return &r
}

// readKept reads the kept outcomes of the kernels of these names. A kernel without one counts as not run.
func readKept(dir string, names []string) (all []*outcome, err error) {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			all = append(all, &outcome{Kernel: name, Date: "never"})
			continue
		} else if err != nil {
			return nil, fmt.Errorf("read results of kernel %s: %w", name, err)
		}
		o := &outcome{}
		if err := json.Unmarshal(data, o); err != nil {
			return nil, fmt.Errorf("read results of kernel %s: %w", name, err)
		}
		all = append(all, o)
	}
	return all, nil
}

// namesOf are the names of the kernels that run often, or of those that run seldom.
func namesOf(kernels []kernel.Wanted, often bool) (names []string) {
	for _, w := range kernels {
		if w.Often == often {
			names = append(names, w.Name)
		}
	}
	return names
}

// commitOf names the commit of a repository that is checked out, and notes if files differ from it.
func commitOf(repo string) (string, error) {
	out, err := exec.Command("git", "-C", repo, "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return "", fmt.Errorf("read the commit by git: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
