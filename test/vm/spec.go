// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

// sourceRoot is the part of the repository in the guest. Programs run in the directory of their package, and
// find by relative paths the files that the spec packs.
const sourceRoot = frame.SourceRoot

// spec is one program to run in the guest, as in the manifest. Exactly one of Test, Main and Path is set.
type spec struct {
	Name string `json:"name"` // name of the program in reports, and of its directory of results

	Test string `json:"test,omitempty"` // package whose tests are built and run with -test.v
	Main string `json:"main,omitempty"` // package of a program that is built and run
	Path string `json:"path,omitempty"` // executable of this machine that is packed with its libraries

	// PartOf names a program that includes this one's work. A program with PartOf runs only on kernels that
	// name it.
	PartOf string `json:"part_of,omitempty"`

	// Tests are the tests of Test that run; empty: all.
	Tests []string `json:"tests,omitempty"`

	Args []string `json:"args,omitempty"`
	// GuestArgs are further arguments in a guest, which is slow.
	GuestArgs []string `json:"guest_args,omitempty"`
	Env       []string `json:"env,omitempty"` // NAME=VALUE, in addition to the guest's own
	Timeout   duration `json:"timeout,omitempty"`

	// Root gives the program a Debian system with the packages of root/packages.txt as its root in a guest.
	// On this machine it uses the installed programs.
	Root bool `json:"root,omitempty"`
	// Files are patterns of files and directories of the repository that the program reads.
	Files []string `json:"files,omitempty"`
	// Tools are other executables of this machine that it starts, by name or path. They are packed at the
	// same path.
	Tools []string `json:"tools,omitempty"`
	// Binaries are programs that it starts, built from the package: path in the guest -> package.
	Binaries map[string]string `json:"binaries,omitempty"`
}

// defaultTimeout bounds a program without a timeout.
const defaultTimeout = 10 * time.Minute

// duration is a time.Duration that is "1m30s" in JSON.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

func (d duration) MarshalText() ([]byte, error) {
	return []byte(time.Duration(d).String()), nil
}

func readSpecs(file string) ([]spec, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	var all []spec
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("parse manifest %s: %w", file, err)
	}
	names := map[string]bool{}
	for i := range all {
		if err := all[i].check(); err != nil {
			return nil, fmt.Errorf("parse manifest %s: program %d: %w", file, i+1, err)
		}
		if names[all[i].Name] {
			return nil, fmt.Errorf("parse manifest %s: program %q is there twice", file, all[i].Name)
		}
		names[all[i].Name] = true
	}
	return all, nil
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// check sets the default values.
func (s *spec) check() error {
	kinds := 0
	for _, kind := range []string{s.Test, s.Main, s.Path} {
		if kind != "" {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("%d of test, main and path, want 1", kinds)
	}
	if s.Name == "" {
		s.Name = path.Base(s.Test + s.Main + s.Path)
	}
	if !plainName.MatchString(s.Name) {
		return fmt.Errorf("name %q is no plain file name", s.Name)
	}
	if s.Timeout == 0 {
		s.Timeout = duration(defaultTimeout)
	}
	if len(s.Tests) == 0 {
		return nil
	}
	if s.Test == "" {
		return errors.New("tests, and no test that they are of")
	}
	s.Args = append([]string{"-test.run", "^(" + strings.Join(s.Tests, "|") + ")$"}, s.Args...)
	return nil
}

// commandSpec is the spec of "PROGRAM ARGS..." on the command line: the tests of a package
// ("./pkg/datapath"), or a file.
func commandSpec(root string, words []string) (spec, error) {
	s := spec{Args: words[1:]}
	if info, err := os.Stat(filepath.Join(root, words[0])); strings.HasPrefix(words[0], "./") && err == nil &&
		info.IsDir() {
		s.Test = words[0]
	} else {
		s.Path = words[0]
	}
	return s, s.check()
}

// program is the entry of init's manifest for a guest.
func (s spec) program(guest bool) frame.Program {
	args := s.Args
	if guest {
		args = slices.Concat(s.Args, s.GuestArgs)
	}
	p := frame.Program{
		Name: s.Name, Path: "/vm/bin/" + s.Name, Args: args, Env: s.Env, Timeout: time.Duration(s.Timeout),
		Dir: path.Join(sourceRoot, s.Test+s.Main), Root: s.Root,
	}
	if s.Test != "" {
		// The limit of the tests comes first, because then the output names the test that hangs.
		own := p.Timeout - p.Timeout/20
		p.Args = append([]string{"-test.v=test2json", "-test.paniconexit0", "-test.timeout=" + own.String()},
			args...)
	}
	return p
}
