// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWrite(t *testing.T) {
	var out bytes.Buffer
	made := time.Date(2026, 11, 29, 22, 0, 0, 0, time.UTC)
	parts := []Part{
		// before the part that knows the name
		{Name: "log.txt", What: "a log", Content: []byte("shop/web-0 has 10.1.2.3\n")},
		{Name: "a.json", What: "sockmapctl a", Content: []byte(attachments), Exit: 5},
		{Name: "broken.json", What: "sockmapctl broken", Content: []byte(`{"pod": "secret-7`)},
		{Name: "gone.txt", What: "sockmapctl gone", Err: errors.New("no 10.9.9.9 for shop/web-0")},
	}
	if err := Write(&out, "b", Manifest{Version: "v1", Made: made}, parts,
		NewScrubber(false, false)); err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 || !h.ModTime.Equal(made) {
			t.Errorf("%s: mode %o, %v", h.Name, h.Mode, h.ModTime)
		}
		files[h.Name] = string(content)
	}
	if got := files["b/log.txt"]; got != "namespace-1/pod-1 has ipv4-1\n" {
		t.Errorf("%q", got)
	}
	if got := files["b/errors.txt"]; !strings.Contains(got, "gone.txt: no ipv4-2 for namespace-1/pod-1\n") ||
		!strings.Contains(got, "broken.json: it is no JSON") {
		t.Errorf("%q", got)
	}
	if _, ok := files["b/gone.txt"]; ok || len(files) != 4 ||
		strings.Contains(files["b/broken.json"], "secret") {
		t.Errorf("%q", files)
	}
	for _, want := range []string{`"exitCode": 5`, `"failed": true`, "IP addresses: --with-addresses",
		"of the node: --with-names"} {
		if !strings.Contains(files["b/manifest.json"], want) {
			t.Errorf("no %s in %s", want, files["b/manifest.json"])
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(
		os.WriteFile(path("log"), []byte("first line\nsecond\nthird\n"), 0o600),
		os.Symlink(path("log"), path("link")),
		os.WriteFile(path("wide"), nil, 0o600), os.Chmod(path("wide"), 0o666),
		os.WriteFile(path("theirs"), nil, 0o600), os.Chown(path("theirs"), 65534, 65534),
		unix.Mkfifo(path("fifo"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(path("log"), 15); err != nil || string(got) != "second\nthird\n" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ReadFile(path("log"), 1000); err != nil || !strings.HasPrefix(string(got), "first") {
		t.Errorf("%q, %v", got, err)
	}
	for name, want := range map[string]string{
		"link": "symbolic link", "wide": "written by others", "theirs": "uid 65534", "fifo": "no regular file",
		"none": "no such file",
	} {
		if got, err := ReadFile(path(name), 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestReadKernel(t *testing.T) {
	k, err := ReadKernel("/")
	if k == nil || k.Release == "" || k.Cgroups == "none" || len(k.Mounts) == 0 ||
		k.Sysctls["net.ipv4.tcp_mem"] == "" {
		t.Errorf("%+v, %v", k, err)
	}
	k, err = ReadKernel(t.TempDir())
	if k == nil || err == nil || !strings.Contains(err.Error(), "the kernel's configuration is in none of") {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestConfigAndMountsOfOtherKernels(t *testing.T) {
	root := t.TempDir()
	running, err := ReadKernel(root)
	if running == nil {
		t.Fatal(err)
	}
	err = errors.Join(os.MkdirAll(filepath.Join(root, "boot"), 0o755),
		os.MkdirAll(filepath.Join(root, "proc/self"), 0o755),
		os.WriteFile(filepath.Join(root, "boot/config-"+running.Release),
			[]byte("CONFIG_BPF_LSM=y\n# CONFIG_TLS is not set\nCONFIG_LSM=\"lockdown,bpf\"\nCONFIG_OTHER=y\n"), 0o600),
		os.WriteFile(filepath.Join(root, "proc/self/mountinfo"),
			[]byte("30 1 0:1 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw\n31 30 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"+
				"32 30 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n33 1 0:4 / /sys/fs/bpf rw shared:1 - bpf bpf rw,mode=700\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	k, err := ReadKernel(root)
	if err != nil {
		t.Fatal(err)
	}
	if k.Cgroups != "hybrid" || len(k.Mounts) != 3 || k.Mounts[2] != (Mount{"/sys/fs/bpf", "bpf",
		"rw,rw,mode=700"}) {
		t.Errorf("%+v", k)
	}
	if len(k.Config) != 2 || k.Config["BPF_LSM"] != "y" || k.Config["LSM"] != "lockdown,bpf" {
		t.Errorf("%+v", k.Config)
	}
}
