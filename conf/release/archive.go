// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// entry is one file of an archive.
type entry struct {
	name string // in the archive, with slashes
	from string // on disk
	mode int64
}

const (
	executable = 0o755
	readable   = 0o644
)

// writeTar writes entries and the directories above them, ordered by name. All belong to root and have one
// time.
func writeTar(w io.Writer, entries []entry, at time.Time) error {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b entry) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	})
	out := tar.NewWriter(w)
	seen := map[string]bool{".": true}
	for _, e := range entries {
		if err := writeParents(out, path.Dir(e.name), seen, at); err != nil {
			return err
		}
		if err := writeFile(out, e, at); err != nil {
			return err
		}
	}
	return out.Close()
}

func writeParents(out *tar.Writer, dir string, seen map[string]bool, at time.Time) error {
	if seen[dir] {
		return nil
	}
	seen[dir] = true
	if err := writeParents(out, path.Dir(dir), seen, at); err != nil {
		return err
	}
	return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: executable, ModTime: at,
		Format: tar.FormatUSTAR})
}

func writeFile(out *tar.Writer, e entry, at time.Time) error {
	f, err := os.Open(e.from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: info.Size(), Mode: e.mode, ModTime: at,
		Format: tar.FormatUSTAR}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return err
}

// createFile creates a file with what write writes to it. Its error includes that of closing the file.
func createFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// writeTarGz writes a file. Its header has neither name nor time.
func writeTarGz(name string, entries []entry, at time.Time) error {
	return createFile(name, func(out io.Writer) error {
		zip := gzip.NewWriter(out)
		if err := writeTar(zip, entries, at); err != nil {
			return err
		}
		return zip.Close()
	})
}

// below lists the regular files of a directory as entries below prefix.
func below(dir, prefix string) (entries []entry, err error) {
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, file)
		entries = append(entries, entry{path.Join(prefix, filepath.ToSlash(name)), file, readable})
		return err
	})
	return entries, err
}

// binaries writes an archive for each architecture: both programs, licences, and a network configuration to
// begin with.
func (r *release) binaries() error {
	for _, arch := range architectures {
		suffix := "-linux-" + arch
		dir := project + "-" + r.version + suffix
		entries := []entry{
			{dir + "/sockmap", r.binary("linux", arch, "sockmap"), executable},
			{dir + "/sockmapctl", r.binary("linux", arch, "sockmapctl"), executable},
			{dir + "/LICENSE", filepath.Join(r.root, "LICENSE"), readable},
			{dir + "/10-sockmap.conflist", filepath.Join(r.root, "conf", "10-sockmap.conflist"), readable},
		}
		licences, err := below(filepath.Join(r.root, "LICENSES"), dir+"/LICENSES")
		if err != nil {
			return err
		}
		if err := writeTarGz(r.name(suffix+".tar.gz"), append(entries, licences...), r.source.time); err != nil {
			return err
		}
	}
	return nil
}

// binary is the path of what make has built: kind is linux for packages, image for the image.
func (r *release) binary(kind, arch, name string) string {
	return filepath.Join(r.root, "bin", kind, arch, name)
}

func (r *release) manuals() error {
	dir := project + "-" + r.version + "-man"
	pages, err := below(filepath.Join(r.root, "bin", "man"), dir+"/man8")
	if err != nil {
		return err
	}
	return writeTarGz(r.name("-man.tar.gz"), pages, r.source.time)
}

// packages takes the deb and rpm packages as they are.
func (r *release) packages() error {
	dir := filepath.Join(r.root, "bin", "packages")
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, p := range all {
		content, err := os.ReadFile(filepath.Join(dir, p.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.out, p.Name()), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
