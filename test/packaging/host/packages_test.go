// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Two versions, of the same programs.
const older, newer = "v0.0.1", "v0.0.2-3-gabc"

// numbers are the version numbers of the packages.
var numbers = map[string]string{older: "0.0.1", newer: "0.0.2+3.gabc"}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

var (
	built   = map[string]string{} // version -> directory
	builtMu sync.Mutex
)

// build writes the packages of a version, once, and returns their directory.
func build(t *testing.T, version string) string {
	t.Helper()
	builtMu.Lock()
	defer builtMu.Unlock()
	if dir := built[version]; dir != "" {
		return dir
	}
	dir, err := filepath.Abs(filepath.Join(top, ".cache", "host", "packages", version))
	if err != nil {
		t.Fatal(err)
	}
	buildInto(t, version, dir)
	built[version] = dir
	return dir
}

func buildInto(t *testing.T, version, dir string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(top, "conf/packages/build.sh"), version, dir)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v (make packages): %s", err, out)
	}
}

// file is the path of one package.
func file(t *testing.T, version, format, arch string) string {
	t.Helper()
	rpmArch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}
	pattern := "sockmap-cni_*_" + arch + ".deb"
	if format == "rpm" {
		pattern = "sockmap-cni-*." + rpmArch[arch] + ".rpm"
	}
	found, err := filepath.Glob(filepath.Join(build(t, version), pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, complaint.String())
	}
	return strings.TrimSpace(out.String())
}

// common are the files of both formats, without the manual pages and docs, which are many.
var common = []string{
	"/etc/sockmap-cni/agent.yaml", "/usr/bin/sockmapctl", "/usr/lib/systemd/system/sockmap-agent.service",
	"/usr/libexec/sockmap-cni/sockmap", "/usr/share/bash-completion/completions/sockmapctl",
	"/usr/share/doc/sockmap-cni/examples/10-sockmap.conflist",
	"/usr/share/fish/vendor_completions.d/sockmapctl.fish",
}

var own = map[string][]string{
	"deb": {
		"/usr/share/doc/sockmap-cni/changelog.gz", "/usr/share/doc/sockmap-cni/copyright",
		"/usr/share/zsh/vendor-completions/_sockmapctl",
	},
	"rpm": {
		"/usr/share/licenses/sockmap-cni/Apache-2.0.txt", "/usr/share/licenses/sockmap-cni/BSD-2-Clause.txt",
		"/usr/share/licenses/sockmap-cni/GPL-2.0-only.txt", "/usr/share/licenses/sockmap-cni/LICENSE",
		"/usr/share/zsh/site-functions/_sockmapctl",
	},
}

// checkFiles compares the files of a package with the expected ones.
func checkFiles(t *testing.T, format string, files []string) {
	t.Helper()
	var got []string
	manuals, docs := 0, 0
	for _, f := range files {
		switch {
		case strings.HasPrefix(f, "/usr/share/man/man8/sockmapctl"):
			manuals++
		case strings.HasPrefix(f, "/usr/share/doc/sockmap-cni/docs/"), filepath.Ext(f) == ".md":
			docs++
		default:
			got = append(got, f)
		}
	}
	want := slices.Concat(common, own[format])
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("files are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if manuals < 20 || docs < 10 {
		t.Errorf("%d manual pages, %d documents", manuals, docs)
	}
	for _, f := range []string{
		"/usr/share/man/man8/sockmapctl.8.gz", "/usr/share/man/man8/sockmapctl-agent.8.gz",
	} {
		if !slices.Contains(files, f) {
			t.Errorf("%s is not there", f)
		}
	}
}

func TestDeb(t *testing.T) {
	for arch, machine := range machines {
		path := file(t, older, "deb", arch)
		for field, want := range map[string]string{
			"Package": "sockmap-cni", "Version": numbers[older], "Architecture": arch, "Section": "net", "Depends": "",
		} {
			if got := output(t, "dpkg-deb", "-f", path, field); got != want {
				t.Errorf("%s: %s is %q, want %q", arch, field, got, want)
			}
		}
		dir := t.TempDir()
		output(t, "dpkg-deb", "-R", path, dir)
		var files []string
		listed := output(t, "sh", "-c", "dpkg-deb --fsys-tarfile "+path+" | tar -tv")
		for _, line := range strings.Split(listed, "\n") {
			w := strings.Fields(line)
			if w[1] != "root/root" {
				t.Errorf("not root's: %s", line)
			}
			if !strings.HasPrefix(line, "d") {
				files = append(files, strings.TrimPrefix(w[5], "."))
			} else if w[0] != "drwxr-xr-x" {
				t.Errorf("not for everybody: %s", line)
			}
		}
		checkFiles(t, "deb", files)
		if got := output(t, "cat", filepath.Join(dir, "DEBIAN/conffiles")); got != "/etc/sockmap-cni/agent.yaml" {
			t.Errorf("configuration files are %q", got)
		}
		checkPrograms(t, dir, machine)
		checkDocuments(t, dir)
		checkChangelog(t, dir, numbers[older])
		for _, script := range []string{"postinst", "prerm", "postrm"} {
			output(t, "sh", "-n", filepath.Join(dir, "DEBIAN", script))
		}
	}
}

func TestRpm(t *testing.T) {
	for arch, machine := range machines {
		path := file(t, older, "rpm", arch)
		query := func(args ...string) []string {
			return strings.Split(output(t, "rpm", append(append([]string{"-qp", "--nosignature"}, args...), path)...),
				"\n")
		}
		const format = "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE}"
		want := "sockmap-cni " + numbers[older] + " 1 " + map[string]string{"amd64": "x86_64",
			"arm64": "aarch64"}[arch] +
			" Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)"
		if got := query("--qf", format); got[0] != want {
			t.Errorf("it is %q, want %q", got[0], want)
		}
		var files []string
		for _, line := range query("--qf", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]") {
			w := strings.Fields(line)
			if len(w) != 4 || w[1] != "root" || w[2] != "root" {
				t.Errorf("not root's: %q", line)
			} else if w[0][0] != 'd' {
				files = append(files, w[3])
			}
		}
		checkFiles(t, "rpm", files)
		if got := query("--configfiles"); len(got) != 1 || got[0] != "/etc/sockmap-cni/agent.yaml" {
			t.Errorf("configuration files are %q", got)
		}
		dir := t.TempDir()
		output(t, "sh", "-c", "cd "+dir+" && rpm2cpio "+path+" | cpio -idm --quiet --no-absolute-filenames")
		checkPrograms(t, dir, machine)
		checkDocuments(t, dir)
	}
}

func checkPrograms(t *testing.T, root string, machine elf.Machine) {
	t.Helper()
	for _, name := range []string{"usr/bin/sockmapctl", "usr/libexec/sockmap-cni/sockmap"} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o755 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		f, err := elf.Open(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine {
			t.Errorf("%s is for %v, want %v", name, f.Machine, machine)
		}
		f.Close()
	}
}

func TestTheSameCommitGivesTheSameBytes(t *testing.T) {
	again := t.TempDir()
	buildInto(t, older, again)
	files, err := filepath.Glob(filepath.Join(build(t, older), "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, f := range files {
		if a, b := digest(t, f), digest(t, filepath.Join(again, filepath.Base(f))); a != b {
			t.Errorf("%s: %s and %s", filepath.Base(f), a, b)
		}
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestVersionsAreInTheirOrder(t *testing.T) {
	names := []string{"0123abc", "v1.0.0-rc1", "v1.0.0-rc1-2-gabc", "v1.0.0", "v1.0.0-1-gabc",
		"v1.0.0-10-gabc-dirty", "v1.0.1"}
	var got []string
	for _, name := range names {
		got = append(got, packageVersion(t, name))
	}
	for i := 1; i < len(got); i++ {
		if err := exec.Command("dpkg", "--compare-versions", got[i-1], "lt", got[i]).Run(); err != nil {
			t.Errorf("%s (%s) is not older than %s (%s)", got[i-1], names[i-1], got[i], names[i])
		}
	}
	out, err := exec.Command(filepath.Join(top, "conf/packages/build.sh"), "v1_0", t.TempDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is no version such as v1.2.3") {
		t.Errorf("%v: %s", err, out)
	}
}

// packageVersion is build.sh's version number for a name by git.
func packageVersion(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(top, "conf/packages/build.sh"), name)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "ONLY_VERSION=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
