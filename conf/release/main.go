// SPDX-License-Identifier: Apache-2.0

// Command release puts together what a release publishes, from what make has built before: see
// docs/RELEASE.md.
//
//	release check VERSION    prints the version to build, or says why this tree cannot be released
//	release assemble VERSION writes bin/release; its chart names the image that the variable IMAGE names
//	release push VERSION     copies its image to the registry and repository that the variable IMAGE names
//
// The same commit and the same version of Go give the same bytes: no file has the time, the place, the user
// or the umask of the build.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const project = "sockmap-cni"

var architectures = []string{"amd64", "arm64"}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: release check|assemble|push VERSION")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	switch args[0] {
	case "check":
		version, err := check(root, args[1], os.Getenv("ALLOW_DIRTY") == "1")
		if err == nil {
			fmt.Println(version)
		}
		return err
	case "assemble":
		return assemble(root, args[1], os.Getenv("IMAGE"))
	case "push":
		return at(root, args[1]).push(context.Background(), os.Getenv("IMAGE"))
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// release is one that is being put together.
type release struct {
	root    string // of the repository
	out     string // what is published
	version string
	source  source
}

// name is that of a file to publish.
func (r *release) name(suffix string) string {
	return filepath.Join(r.out, project+"-"+r.version+suffix)
}

// at is the release that is, or will be, below root.
func at(root, version string) *release {
	return &release{root: root, out: filepath.Join(root, "bin", "release"), version: version}
}

// assemble replaces the directory of an earlier release. image is where the chart finds its image by default;
// empty: the chart names no registry.
func assemble(root, version, image string) error {
	src, err := readSource(root)
	if err != nil {
		return err
	}
	r := at(root, version)
	r.source = src
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"binaries", r.binaries},
		{"manual pages", r.manuals},
		{"packages", r.packages},
		{"chart", func() error { return r.chart(image) }},
		{"image", r.image},
		{"bill of materials", r.sbom},
		{"checksums", r.sums}, // of everything before
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	fmt.Printf("wrote %s to %s\n", version, r.out)
	return nil
}
