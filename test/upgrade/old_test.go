// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// lastOfABI1 is the last commit whose ABI is 1, and its name as a version.
const (
	lastOfABI1    = "dc3d6ec359abe7fd8648afbb58895df6053ebc53"
	versionOfABI1 = "v0.1.0"
)

// oldBinaries has sockmap and sockmapctl of ABI 1, built from that commit of this repository.
func oldBinaries(t *testing.T) (dir string) {
	t.Helper()
	dir, err := buildOld()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// buildOld builds into a directory that stays, as the plugins of this version are.
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
	if err := checkout(ctx, root, filepath.Join(dir, "src")); err != nil {
		return "", err
	}
	for _, program := range []string{"sockmap", "sockmapctl"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(dir, "src"), "-trimpath",
			"-ldflags=-s -w -X github.com/sockmap-cni/sockmap-cni/pkg/version.version="+versionOfABI1, "-o", binaries+"/", "./plugin/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s of commit %s: %w:\n%s", program, lastOfABI1, err, bytes.TrimSpace(out))
		}
	}
	return binaries, nil
})

// checkout writes the files of that commit below dir.
func checkout(ctx context.Context, root, dir string) error {
	if out, err := exec.CommandContext(ctx, "git", "-C", root, "cat-file", "-e", lastOfABI1+"^{commit}").CombinedOutput(); err != nil {
		return fmt.Errorf("commit %s, the last of ABI 1, is not in this clone, and an upgrade from it cannot be tested (get the "+
			"history with: git fetch --unshallow): %w: %s", lastOfABI1, err, bytes.TrimSpace(out))
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	archive := exec.CommandContext(ctx, "git", "-C", root, "archive", "--format=tar", lastOfABI1)
	extract := exec.CommandContext(ctx, "tar", "-x", "-C", dir)
	var complaint bytes.Buffer
	archive.Stderr, extract.Stderr = &complaint, &complaint
	var err error
	if extract.Stdin, err = archive.StdoutPipe(); err != nil {
		return err
	}
	if err := extract.Start(); err != nil {
		return err
	}
	archiveErr := archive.Run()
	if err := extract.Wait(); err != nil || archiveErr != nil {
		return fmt.Errorf("check out %s: %v, %v: %s", lastOfABI1, archiveErr, err, bytes.TrimSpace(complaint.Bytes()))
	}
	return nil
}
