// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// claimName is the file that names the agent which keeps this node. No runtime loads it. Its mode is 0600,
// because a process that can open it can lock it and pass for an agent.
const claimName = ".sockmap-agent"

// Claim is one process's claim to keep a directory of network configurations. The newest claim counts: an old
// agent must not fight the one that replaces it with another configuration. The claim ends with its process,
// even if that is killed.
type Claim struct {
	dir  string
	file *os.File // locked for the life of the claim
}

// TakeClaim takes over the claim of ConfDir. who names the new holder in the logs of other agents.
func (i *Installer) TakeClaim(ctx context.Context, who string) (*Claim, error) {
	locked, err := i.lock(ctx, i.ConfDir)
	if err != nil {
		return nil, err
	}
	defer locked.Unlock()
	if err := i.step("claim"); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(i.ConfDir, tempPrefix+"*"+tempSuffix)
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", i.ConfDir, err)
	}
	_, err = f.WriteString(who + "\n")
	err = errors.Join(err, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(i.ConfDir, claimName))
	}
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", i.ConfDir, errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	return &Claim{i.ConfDir, f}, nil
}

// Holder returns the name of the live process that has taken over the claim, or "". gone reports that nobody
// holds the claim any more; otherwise "" means that c still holds it.
func (c *Claim) Holder() (who string, gone bool) {
	path := filepath.Join(c.dir, claimName)
	mine, errMine := c.file.Stat()
	now, errNow := os.Stat(path)
	if errMine == nil && errNow == nil && os.SameFile(mine, now) {
		return "", false
	}
	who = claimant(c.dir)
	return who, who == ""
}

// Release gives the claim up, and removes its file unless another process has taken over.
func (c *Claim) Release() error {
	var err error
	if who, gone := c.Holder(); who == "" && !gone {
		err = os.Remove(filepath.Join(c.dir, claimName))
	}
	return errors.Join(err, c.file.Close())
}

// ClaimHolder returns the name of the agent that keeps the node with this directory of network
// configurations, or "" if none does.
func ClaimHolder(confDir string) string { return claimant(confDir) }

// claimant returns the name of the live holder of a directory's claim, or "".
func claimant(dir string) string {
	f, err := os.Open(filepath.Join(dir, claimName))
	if err != nil {
		return ""
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return "" // the holder is dead; closing the file releases the lock
	}
	text := make([]byte, 256)
	n, _ := f.Read(text)
	if who := strings.TrimSpace(string(text[:n])); who != "" {
		return who
	}
	return "an agent"
}

// checkUnclaimed returns an error if a live agent holds the claim, because it would undo an uninstall. It
// removes the claim of an agent that is dead.
func (i *Installer) checkUnclaimed() error {
	if who := claimant(i.ConfDir); who != "" {
		return fmt.Errorf("%s keeps %s as it is (stop it first)", who, i.ConfDir)
	}
	err := os.Remove(filepath.Join(i.ConfDir, claimName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
