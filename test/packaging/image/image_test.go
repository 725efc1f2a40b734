// SPDX-License-Identifier: Apache-2.0

// Package image has tests only. They build the container image as for a registry, and check its contents.
package image

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const top = "../../.."

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

var programs = []string{"sockmap", "sockmapctl"}

func TestProgramsAreStaticAndOfTheirArchitecture(t *testing.T) {
	for arch, machine := range machines {
		for _, name := range programs {
			checkProgram(t, filepath.Join(top, "bin/image", arch, name), machine)
		}
	}
}

func checkProgram(t *testing.T, path string, machine elf.Machine) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatalf("%v (make image-binaries)", err)
	}
	defer f.Close()
	if f.Machine != machine {
		t.Errorf("%s is for %s, want %s", path, f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s is dynamic: it needs an interpreter, and the image has none", path)
		}
	}
	if libraries, err := f.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("%s needs %v", path, libraries)
	}
}

// buildah runs with the test's own storage, and without a registry: it fails where it would use one.
type buildah struct{ dir, policy string }

func newBuildah(t *testing.T) buildah {
	t.Helper()
	b := buildah{dir: t.TempDir()}
	b.policy = filepath.Join(b.dir, "policy.json")
	if err := os.WriteFile(b.policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`),
		0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b buildah) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("buildah", append([]string{"--root", b.dir + "/root", "--runroot", b.dir + "/run",
		"--storage-driver", "vfs"}, args...)...)
	cmd.Dir = top
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("buildah %s: %v: %s", strings.Join(args, " "), err, complaint.String())
	}
	return strings.TrimSpace(out.String())
}

// build makes the image of one architecture and returns where its root is.
func (b buildah) build(t *testing.T, arch string) (name, root string) {
	t.Helper()
	name = "sockmap-cni-test:" + arch
	b.run(t, "bud", "--signature-policy", b.policy, "--isolation", "chroot", "--pull-never", "--platform",
		"linux/"+arch,
		"--build-arg", "VERSION=v0-test", "-f", "conf/Dockerfile", "-t", name, ".")
	id := b.run(t, "from", "--signature-policy", b.policy, "--pull-never", name)
	return name, b.run(t, "mount", id)
}

func TestImage(t *testing.T) {
	b := newBuildah(t)
	for arch, machine := range machines {
		t.Run(arch, func(t *testing.T) {
			name, root := b.build(t, arch)
			got := filesIn(t, root)
			want := []string{
				"licenses/Apache-2.0.txt", "licenses/BSD-2-Clause.txt", "licenses/GPL-2.0-only.txt", "licenses/LICENSE",
				"usr/local/bin/sockmap", "usr/local/bin/sockmapctl",
			}
			if !slices.Equal(got, want) {
				t.Errorf("the image has %v, want %v", got, want)
			}
			for _, p := range programs {
				checkProgram(t, filepath.Join(root, "usr/local/bin", p), machine)
			}
			checkConfig(t, b.run(t, "inspect", "--type", "image", name), arch)
			if arch == "amd64" {
				checkRuns(t, root)
			}
		})
	}
}

func filesIn(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(root, path)
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func checkConfig(t *testing.T, inspected, arch string) {
	t.Helper()
	var image struct {
		OCIv1 struct {
			Architecture, OS string
			Config           struct {
				User       string
				Entrypoint []string
				Labels     map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(inspected), &image); err != nil {
		t.Fatal(err)
	}
	c := image.OCIv1
	if c.Architecture != arch || c.OS != "linux" || c.Config.User != "0:0" ||
		!slices.Equal(c.Config.Entrypoint, []string{"/usr/local/bin/sockmapctl"}) {
		t.Errorf("image of %s: %+v", arch, c)
	}
	if v := c.Config.Labels["org.opencontainers.image.version"]; v != "v0-test" {
		t.Errorf("version %q, want that of the build argument", v)
	}
}

// checkRuns starts both programs with only the files of the image.
func checkRuns(t *testing.T, root string) {
	t.Helper()
	for _, c := range []struct {
		args []string
		env  []string
		in   string
		want string
	}{
		{[]string{"/usr/local/bin/sockmapctl", "version", "-o", "json"}, nil, "", `"version"`},
		{[]string{"/usr/local/bin/sockmap"}, []string{"CNI_COMMAND=VERSION"}, `{"cniVersion":"1.0.0"}`,
			`"supportedVersions"`},
	} {
		cmd := exec.Command(c.args[0], c.args[1:]...)
		cmd.Env, cmd.Stdin, cmd.Dir = c.env, strings.NewReader(c.in), "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
		cmd.Err = nil // the program is not looked up on the host
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %v: %s", c.args, err, out)
		}
	}
}
