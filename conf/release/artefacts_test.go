// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"compress/gzip"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// artefact is the path of a file of the release.
func artefact(out, suffix string) string { return filepath.Join(out, "sockmap-cni-"+tested+suffix) }

// unpack writes the files of an archive below a directory, and returns their headers.
func unpack(t *testing.T, archive string) (dir string, headers []*tar.Header) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(archive, "gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	return unpackFrom(t, in)
}

func unpackFrom(t *testing.T, in io.Reader) (dir string, headers []*tar.Header) {
	t.Helper()
	dir = t.TempDir()
	for all := tar.NewReader(in); ; {
		h, err := all.Next()
		if errors.Is(err, io.EOF) {
			return dir, headers
		}
		if err == nil && !filepath.IsLocal(h.Name) {
			t.Fatalf("%q is not below the directory", h.Name)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err == nil && h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else if err == nil {
			var content []byte
			if content, err = io.ReadAll(all); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, fsMode(h)))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
	}
}

func fsMode(h *tar.Header) os.FileMode { return os.FileMode(h.Mode).Perm() }

// checkHeaders fails for a header with traces of the machine that built the archive.
func checkHeaders(t *testing.T, out string, headers []*tar.Header) {
	t.Helper()
	seconds := output(t, out, nil, "git", "log", "-1", "--format=%ct")
	at := output(t, out, nil, "date", "-u", "-d", "@"+seconds, "+%FT%TZ")
	for _, h := range headers {
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.UTC().Format("2006-01-02T15:04:05Z") != at ||
			h.Mode&0o022 != 0 {
			t.Errorf("%s: owner %d:%d %q, mode %o, %v; want root's, of %s", h.Name, h.Uid, h.Gid, h.Uname, h.Mode,
				h.ModTime, at)
		}
	}
}

func checkMachine(t *testing.T, path string, want elf.Machine) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != want {
		t.Errorf("%s is for %v, want %v", path, f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s is not static", path)
		}
	}
}

// checkPrograms looks at both programs in dir, and runs them if this machine can. root is what they see as /.
func checkPrograms(t *testing.T, root, dir, arch string) {
	t.Helper()
	for _, name := range []string{"sockmap", "sockmapctl"} {
		checkMachine(t, filepath.Join(root, dir, name), machines[arch])
	}
	if arch != runtime.GOARCH {
		return
	}
	for _, c := range []struct {
		args      []string
		env       []string
		in, wants string
	}{
		{[]string{filepath.Join("/", dir, "sockmapctl"), "version", "-o", "json"}, nil, "",
			`"version": "` + tested + `"`},
		{[]string{filepath.Join("/", dir, "sockmap")}, []string{"CNI_COMMAND=VERSION"}, `{"cniVersion":"1.0.0"}`,
			`"supportedVersions"`},
	} {
		cmd := exec.Command(c.args[0], c.args[1:]...)
		cmd.Env, cmd.Stdin, cmd.Dir = c.env, strings.NewReader(c.in), "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
		cmd.Err = nil // it is not looked up on the host
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), c.wants) {
			t.Errorf("%v: %v: %s", c.args, err, out)
		}
	}
}

func checkArchives(t *testing.T, out string) {
	for arch := range machines {
		name := "sockmap-cni-" + tested + "-linux-" + arch
		dir, headers := unpack(t, artefact(out, "-linux-"+arch+".tar.gz"))
		checkHeaders(t, out, headers)
		var files []string
		for _, h := range headers {
			files = append(files, strings.TrimPrefix(h.Name, name+"/"))
		}
		for _, want := range []string{"sockmap", "sockmapctl", "LICENSE", "10-sockmap.conflist",
			"LICENSES/GPL-2.0-only.txt"} {
			if !slices.Contains(files, want) {
				t.Errorf("%s has no %s: %q", arch, want, files)
			}
		}
		checkPrograms(t, dir, name, arch)
	}
}

func checkManuals(t *testing.T, out string) {
	dir, headers := unpack(t, artefact(out, "-man.tar.gz"))
	checkHeaders(t, out, headers)
	pages, err := filepath.Glob(filepath.Join(dir, "*", "man8", "sockmapctl*.8"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	page, err := os.ReadFile(filepath.Join(filepath.Dir(pages[0]), "sockmapctl-status.8"))
	if err != nil || !strings.Contains(string(page), tested) || !strings.Contains(string(page), ".SH SYNOPSIS") {
		t.Errorf("page of status: %v: %s", err, page)
	}
}

func checkChart(t *testing.T, out string) {
	archive := filepath.Join(out, "sockmap-cni-"+strings.TrimPrefix(tested, "v")+".tgz")
	_, headers := unpack(t, archive)
	checkHeaders(t, out, headers)
	c, err := loader.Load(archive)
	if err != nil {
		t.Fatal(err)
	}
	if c.Metadata.Version != "9.8.7" || c.Metadata.AppVersion != tested {
		t.Errorf("chart is %s for %s", c.Metadata.Version, c.Metadata.AppVersion)
	}
	if want := testedImage + ":" + tested; !strings.Contains(daemonset(t, c), want) {
		t.Errorf("the DaemonSet has another image than %s:\n%s", want, daemonset(t, c))
	}
}

// daemonset is the manifest that the chart makes without any values.
func daemonset(t *testing.T, c *chart.Chart) string {
	t.Helper()
	options := common.ReleaseOptions{Name: "sockmap-cni", Namespace: "kube-system", IsInstall: true}
	values, err := util.ToRenderValues(c, nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(c, values)
	if err != nil {
		t.Fatal(err)
	}
	return files["sockmap-cni/templates/daemonset.yaml"]
}

const maintainer = "sockmap-cni developers <no-address@sockmap-cni.invalid>"

func checkPackages(t *testing.T, out string) {
	for arch, rpmArch := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		deb := filepath.Join(out, "sockmap-cni_9.8.7_"+arch+".deb")
		for field, want := range map[string]string{"Package": "sockmap-cni", "Version": "9.8.7",
			"Architecture": arch, "Maintainer": maintainer} {
			if got := output(t, out, nil, "dpkg-deb", "-f", deb, field); got != want {
				t.Errorf("%s: %s is %q, want %q", deb, field, got, want)
			}
		}
		rpm := filepath.Join(out, "sockmap-cni-9.8.7-1."+rpmArch+".rpm")
		query := []string{"-qp", "--nosignature", "--qf", "%{NAME} %{VERSION} %{ARCH} %{PACKAGER}", rpm}
		if got, want := output(t, out, nil, "rpm", query...),
			"sockmap-cni 9.8.7 "+rpmArch; !strings.HasPrefix(got, want) {
			t.Errorf("%s is %q, want %q", rpm, got, want)
		}
		dir := t.TempDir()
		output(t, out, nil, "dpkg-deb", "-x", deb, dir)
		checkMachine(t, filepath.Join(dir, "usr/libexec/sockmap-cni/sockmap"), machines[arch])
		checkMachine(t, filepath.Join(dir, "usr/bin/sockmapctl"), machines[arch])
		if !linked(t, filepath.Join(dir, "usr/bin/sockmapctl"))[terminalLibrary] {
			t.Errorf("%s: sockmapctl does not link %s, so it has no top", deb, terminalLibrary)
		}
		if arch == runtime.GOARCH {
			output(t, dir, nil, filepath.Join(dir, "usr/bin/sockmapctl"), "top", "--help")
		}
	}
}
