// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// versionOfABI1 is the version that the binaries of ABI 1 print.
const versionOfABI1 = "v0.1.0"

// sourcesOfABI1 is the product (go.mod, pkg, plugin, bpf, without tests) at dc3d6ec359ab, the last commit
// whose ABI is 1. It is kept here because a clone need not have the history.
//
//go:embed testdata/abi1.tar.gz
var sourcesOfABI1 []byte

// oldBinaries has sockmap and sockmapctl of ABI 1, built from those sources.
func oldBinaries(t *testing.T) (dir string) {
	t.Helper()
	dir, err := buildOld()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// buildOld builds into a directory that remains, like the plugins of this version.
var buildOld = sync.OnceValues(func() (string, error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "abi1")
	binaries := filepath.Join(dir, "bin")
	if _, err := os.Stat(filepath.Join(binaries, "sockmapctl")); err == nil {
		return binaries, nil // go build writes it last
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := extract(filepath.Join(dir, "src")); err != nil {
		return "", err
	}
	for _, program := range []string{"sockmap", "sockmapctl"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(dir, "src"), "-trimpath",
			"-ldflags=-s -w -X github.com/sockmap-cni/sockmap-cni/pkg/version.version="+versionOfABI1, "-o",
			binaries+"/", "./plugin/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s of ABI 1: %w:\n%s", program, err, bytes.TrimSpace(out))
		}
	}
	return binaries, nil
})

// extract writes the files of ABI 1 below dir.
func extract(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	packed, err := gzip.NewReader(bytes.NewReader(sourcesOfABI1))
	if err != nil {
		return err
	}
	files := tar.NewReader(packed)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path, err := filepath.Localize(strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/"))
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err != nil {
			return err
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		text, err := io.ReadAll(files)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
}
