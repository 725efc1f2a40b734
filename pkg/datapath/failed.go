// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

// failedPin is a symbolic link that remembers a load that failed; its target is the text. bpffs forgets it at a reboot.
// The name is one of unfinished state, so that versions that do not know it take no notice and remove it.
const failedPin = buildingPrefix + "failed"

// maxFailure is how many characters of an error are remembered. What the verifier says can be much longer.
const maxFailure = 800

// Failure is a load that failed.
type Failure struct {
	Maker  string        // who failed, as RecordFailure was told
	Ago    time.Duration // since then
	Why    decline.Reason
	Reason string // in words
}

// RecordFailure remembers that maker, a name without spaces, could not load. The caller holds the lock on dir.
func RecordFailure(dir, maker string, why decline.Reason, reason string) error {
	text := []rune(strings.Join(strings.Fields(reason), " "))
	if len(text) > maxFailure {
		text = append(text[:maxFailure-1], '…')
	}
	if err := ForgetFailure(dir); err != nil {
		return err
	}
	target := fmt.Sprintf("%d %s %d %s", bootTime(), maker, why, string(text))
	if err := os.Symlink(target, filepath.Join(dir, failedPin)); err != nil {
		return fmt.Errorf("remember that loading failed: %w", err)
	}
	return nil
}

// ForgetFailure takes RecordFailure back. The caller holds the lock on dir.
func ForgetFailure(dir string) error {
	if err := removeIfThere(filepath.Join(dir, failedPin)); err != nil {
		return fmt.Errorf("forget that loading failed: %w", err)
	}
	return nil
}

// LastFailure tells of the load that failed since the last one that did not. It takes no lock.
func LastFailure(dir string) (f Failure, ok bool) {
	var target string
	err := within(dir, func(dir string) (err error) {
		target, err = os.Readlink(filepath.Join(dir, failedPin))
		return err
	})
	if err != nil {
		return f, false
	}
	words := strings.SplitN(target, " ", 4)
	if len(words) < 4 {
		return f, false
	}
	why, err := strconv.ParseUint(words[2], 10, 32)
	if err != nil {
		return f, false
	}
	at, err := strconv.ParseUint(words[0], 10, 64)
	now := bootTime()
	if err != nil || at > now {
		return f, false
	}
	return Failure{Maker: words[1], Ago: time.Duration(now - at), Why: decline.Reason(why), Reason: words[3]}, true
}

// unfinished tells names of state that somebody is building, or was.
func unfinished(name string) bool {
	return strings.HasPrefix(name, buildingPrefix) && name != failedPin && !isMark(name)
}
