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

// claimName is the file by which agents know which of them keeps the node. No runtime loads it. Its mode is 0600: whoever can open
// it can lock it, and be taken for an agent.
const claimName = ".sockmap-agent"

// Claim says that one process keeps a directory of network configurations as it should be. The newest one has it: an
// agent that is replaced by one with another configuration must not fight it. It ends with the process that holds
// it, however that dies.
type Claim struct {
	dir  string
	file *os.File // locked for the life of the claim
}

// TakeClaim takes the claim of ConfDir from whoever has it. Who says who takes it, for others' messages.
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

// Holder returns who has taken the claim since, and is alive. It is empty while the claim is held, and when nobody
// holds it any more: gone tells the two apart.
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

// Release gives the claim up. The file goes, unless it is another's by now.
func (c *Claim) Release() error {
	var err error
	if who, gone := c.Holder(); who == "" && !gone {
		err = os.Remove(filepath.Join(c.dir, claimName))
	}
	return errors.Join(err, c.file.Close())
}

// ClaimHolder names the agent that keeps the node whose network configurations are in confDir; empty: none does.
func ClaimHolder(confDir string) string { return claimant(confDir) }

// claimant returns who holds the claim of a directory. It is empty when nobody who lives does.
func claimant(dir string) string {
	f, err := os.Open(filepath.Join(dir, claimName))
	if err != nil {
		return ""
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return "" // its holder died: closing gives the lock back
	}
	text := make([]byte, 256)
	n, _ := f.Read(text)
	if who := strings.TrimSpace(string(text[:n])); who != "" {
		return who
	}
	return "an agent"
}

// checkUnclaimed refuses to uninstall under an agent, which would put everything back, and removes what is left of
// one that died.
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
