// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
)

const licenceOfObjects = "GPL-2.0-only OR BSD-2-Clause"

// bom is a bill of materials that is being written. What each program holds is read from the program itself.
type bom struct {
	r          *release
	licences   *licenceBook
	objects    []object
	components map[string]cdx.Component // by their BOMRef
	holds      map[string][]string      // BOMRef of a whole -> those of its parts
}

// object is a BPF object of the repository.
type object struct {
	ref     string
	content []byte
}

// sbom writes a bill of materials in CycloneDX for all programs of the release.
func (r *release) sbom() error {
	book, err := newLicenceBook(r.root)
	if err != nil {
		return err
	}
	b := &bom{r: r, licences: book, components: map[string]cdx.Component{}, holds: map[string][]string{}}
	if err := b.readObjects(); err != nil {
		return err
	}
	for _, kind := range []string{"linux", "image"} {
		for _, arch := range architectures {
			for _, name := range []string{"sockmap", "sockmapctl"} {
				if err := b.program(kind, arch, name); err != nil {
					return err
				}
			}
		}
	}
	return b.write(r.name(".cdx.json"))
}

func (b *bom) readObjects() error {
	listed, err := git(b.r.root, "ls-files", "pkg/*_bpfel.o")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(listed) {
		file := filepath.Join(b.r.root, name)
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sum, err := digest(file)
		if err != nil {
			return err
		}
		ref := "object:" + name
		b.objects = append(b.objects, object{ref, content})
		b.components[ref] = cdx.Component{
			BOMRef: ref, Type: cdx.ComponentTypeFile, Name: name, Version: b.r.version,
			Description: "BPF programs, as they are embedded",
			Hashes:      sha256Of(sum),
			Licenses:    &cdx.Licenses{{Expression: licenceOfObjects}},
		}
	}
	if len(b.objects) == 0 {
		return fmt.Errorf("no BPF object is committed below pkg")
	}
	return nil
}

// program adds one program, its modules, the standard library, and the BPF objects whose bytes it has.
func (b *bom) program(kind, arch, name string) error {
	file := b.r.binary(kind, arch, name)
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	sum, err := digest(file)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	ref := path.Join("program:"+kind, arch, name)
	parts := []string{b.standardLibrary(info.GoVersion)}
	for _, m := range info.Deps {
		parts = append(parts, b.module(m))
	}
	for _, o := range b.objects {
		if bytes.Contains(content, o.content) {
			parts = append(parts, o.ref)
		}
	}
	where := "archives and packages"
	if kind == "image" {
		where = "container image"
	}
	b.components[ref] = cdx.Component{
		BOMRef: ref, Type: cdx.ComponentTypeApplication, Name: name, Version: b.r.version,
		Description: fmt.Sprintf("%s for linux/%s, in the %s", name, arch, where),
		Hashes:      sha256Of(sum),
		Licenses:    &cdx.Licenses{{Expression: licences}},
		Properties:  settings(info.Settings),
	}
	b.holds[ref] = parts
	return nil
}

func sha256Of(sum string) *[]cdx.Hash {
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}}
}

// settings are those with which a program was built.
func settings(all []debug.BuildSetting) *[]cdx.Property {
	var properties []cdx.Property
	for _, s := range all {
		properties = append(properties, cdx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	return &properties
}

func (b *bom) standardLibrary(version string) string {
	number := strings.TrimPrefix(version, "go")
	return b.library(cdx.Component{
		Name: "std", Version: number, PackageURL: "pkg:golang/std@" + number,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "BSD-3-Clause"}}},
	})
}

func (b *bom) module(m *debug.Module) string {
	if m.Replace != nil {
		m = m.Replace
	}
	return b.library(cdx.Component{
		Name: m.Path, Version: m.Version, PackageURL: "pkg:golang/" + m.Path + "@" + m.Version,
		Licenses:   b.licences.of(m.Path),
		Properties: &[]cdx.Property{{Name: "go:sum", Value: m.Sum}},
	})
}

func (b *bom) library(c cdx.Component) string {
	c.BOMRef, c.Type = c.PackageURL, cdx.ComponentTypeLibrary
	b.components[c.BOMRef] = c
	return c.BOMRef
}

func (b *bom) write(name string) error {
	root := cdx.Component{
		BOMRef: "release", Type: cdx.ComponentTypeApplication, Name: project, Version: b.r.version,
		Licenses: &cdx.Licenses{{Expression: licences}},
		ExternalReferences: &[]cdx.ExternalReference{{Type: cdx.ERTypeVCS, URL: home,
			Comment: "commit " + b.r.source.commit}},
	}
	b.holds[root.BOMRef] = nil
	for ref := range b.holds {
		if strings.HasPrefix(ref, "program:") {
			b.holds[root.BOMRef] = append(b.holds[root.BOMRef], ref)
		}
	}
	out := cdx.NewBOM()
	// The same release always has the same number, and no other release has it.
	out.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte(home+"@"+b.r.version+"@"+b.r.source.commit)).URN()
	out.Metadata = &cdx.Metadata{
		Timestamp: b.r.source.time.Format(time.RFC3339),
		Component: &root,
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "go",
			Version: runtime.Version()}}},
	}
	var components []cdx.Component
	for _, ref := range slices.Sorted(maps.Keys(b.components)) {
		components = append(components, b.components[ref])
	}
	out.Components = &components
	var dependencies []cdx.Dependency
	for _, ref := range slices.Sorted(maps.Keys(b.holds)) {
		parts := slices.Sorted(slices.Values(b.holds[ref]))
		dependencies = append(dependencies, cdx.Dependency{Ref: ref, Dependencies: &parts})
	}
	out.Dependencies = &dependencies
	return createFile(name, func(w io.Writer) error {
		return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(out, cdx.SpecVersion1_6)
	})
}
