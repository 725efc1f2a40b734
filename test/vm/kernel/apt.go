// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// MirrorVariable is the environment variable with the address of a Debian archive, for machines whose own
// package sources have none.
const MirrorVariable = "VM_DEBIAN_MIRROR"

// archive is a separate apt: it has other suites than the machine's apt, and does not use its state.
type archive struct {
	dir   string
	arch  string
	hosts []string // errors do not name them
}

// openArchive prepares dir and fetches the indexes of the suites for this architecture.
func openArchive(ctx context.Context, dir, arch string, suites []string) (*archive, error) {
	if err := Need("apt-get", keyring); err != nil {
		return nil, err
	}
	uris, err := mirrors(ctx)
	if err != nil {
		return nil, err
	}
	a := &archive{dir: dir, arch: arch}
	var sources strings.Builder
	for _, suite := range suites {
		uri, ok := uris[archiveOf(suite)]
		if !ok {
			// A machine without security updates gets the kernels of the main archive.
			continue
		}
		fmt.Fprintf(&sources, "deb [arch=%s signed-by=%s] %s %s main\n", arch, keyring, uri, suite)
		if u, err := url.Parse(uri); err == nil && u.Host != "" {
			a.hosts = append(a.hosts, u.Host, u.Hostname())
		}
	}
	if sources.Len() == 0 {
		return nil, fmt.Errorf("find a Debian archive in the package sources: none (set %s=ADDRESS)",
			MirrorVariable)
	}
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("prepare apt: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sources.String()), 0o644); err != nil {
		return nil, fmt.Errorf("prepare apt: %w", err)
	}
	// An empty list of installed packages.
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return nil, fmt.Errorf("prepare apt: %w", err)
	}
	if _, err := a.run(ctx, dir, "apt-get", "update", "-qq", "--error-on=any"); err != nil {
		return nil,
			fmt.Errorf("%w\n(the Debian archive of this machine's package sources is needed; %s=ADDRESS names another)", err, MirrorVariable)
	}
	return a, nil
}

// archiveOf is the last part of the address of a suite's archive.
func archiveOf(suite string) string {
	if strings.HasSuffix(suite, "-security") {
		return "debian-security"
	}
	return "debian"
}

// mirrors asks apt which archives this machine uses.
func mirrors(ctx context.Context) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)",
		"Created-By: Packages").Output()
	if err != nil {
		return nil, fmt.Errorf("read the machine's package sources by apt: %w", err)
	}
	return pickMirrors(os.Getenv(MirrorVariable), string(out)), nil
}

// pickMirrors keeps the first address of each archive. An address that is given replaces the main archive
// only: a mirror may lack the security archive.
func pickMirrors(given, listed string) map[string]string {
	uris := map[string]string{}
	if given != "" {
		uris["debian"] = given
	}
	for uri := range strings.FieldsSeq(listed) {
		name := filepath.Base(strings.TrimRight(uri, "/"))
		if _, ok := uris[name]; !ok {
			uris[name] = uri
		}
	}
	return uris
}

func (a *archive) run(ctx context.Context, workDir, tool string, args ...string) (string, error) {
	options := []string{
		"-oDir::Etc::SourceList=" + filepath.Join(a.dir, "sources.list"),
		"-oDir::Etc::SourceParts=/nonexistent",
		"-oDir::State=" + a.dir,
		"-oDir::State::status=" + filepath.Join(a.dir, "status"),
		"-oDir::Cache=" + a.dir,
		"-oAPT::Architecture=" + a.arch,
		"-oAPT::Architectures=" + a.arch,
		"-oAPT::Sandbox::User=root",
		"-oAcquire::Languages=none",
		"-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"-oAcquire::Retries=2",
		"-oAcquire::http::Timeout=20",
		"-oAcquire::https::Timeout=20",
	}
	cmd := exec.CommandContext(ctx, tool, append(options, args...)...)
	cmd.Dir = workDir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w", tool, strings.Join(args, " "), errors.Join(err, a.said(stderr.String())))
	}
	return stdout.String(), nil
}

func (a *archive) said(text string) error {
	for _, host := range a.hosts {
		text = strings.ReplaceAll(text, host, "MIRROR")
	}
	return errors.New(strings.TrimSpace(text))
}

// stanza is an archive's description of one version of a package.
type stanza struct {
	name, version string
	depends       []dependency
}

type dependency struct {
	name, version string // with an empty version if any version will do
}

// show returns all versions of a package, newest first (the order of apt's cache).
func (a *archive) show(ctx context.Context, name string) ([]stanza, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", "show", name)
	if err != nil {
		return nil, err
	}
	return parseStanzas(out), nil
}

func parseStanzas(text string) []stanza {
	var all []stanza
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var s stanza
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
			switch key {
			case "Package":
				s.name = value
			case "Version":
				s.version = value
			case "Depends":
				s.depends = parseDepends(value)
			}
		}
		if s.name != "" {
			all = append(all, s)
		}
	}
	return all
}

// parseDepends reads "a (= 1), b | c, d (>= 2)", taking the first of alternatives.
func parseDepends(value string) []dependency {
	var all []dependency
	for item := range strings.SplitSeq(value, ",") {
		first, _, _ := strings.Cut(item, "|")
		name, condition, _ := strings.Cut(strings.TrimSpace(first), " ")
		d := dependency{name: name}
		if exact, ok := strings.CutPrefix(condition, "(= "); ok {
			d.version = strings.TrimSuffix(exact, ")")
		}
		all = append(all, d)
	}
	return all
}

// download puts the packages, each "NAME=VERSION", into dir. apt has checked their checksums against the
// signed index.
func (a *archive) download(ctx context.Context, dir string, packages []string) error {
	_, err := a.run(ctx, dir, "apt-get", append([]string{"download", "-qq"}, packages...)...)
	return err
}
