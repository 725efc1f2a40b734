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

// failedPin is a symbolic link that remembers a load that failed; its target is the text. A reboot removes
// it. Its name is one of unfinished state, so versions that do not know it remove it.
const failedPin = buildingPrefix + "failed"

// maxFailure is how many characters of an error are kept. A verifier log can be much longer.
const maxFailure = 800

// Failure is a load that failed.
type Failure struct {
	Maker  string        // who failed: the maker given to RecordFailure
	Ago    time.Duration // since then
	Why    decline.Reason
	Reason string // in words
}

// RecordFailure notes that maker, a name without spaces, could not load. The caller holds the lock on dir.
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

// ForgetFailure undoes RecordFailure. The caller holds the lock on dir.
func ForgetFailure(dir string) error {
	if err := removeIfThere(filepath.Join(dir, failedPin)); err != nil {
		return fmt.Errorf("forget that loading failed: %w", err)
	}
	return nil
}

// LastFailure returns the failed load since the last successful one; ok is false if there is none. It takes
// no lock.
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
	return Failure{Maker: words[1], Ago: time.Duration(now - at), Why: decline.Reason(why), Reason: words[3]},
		true
}

// unfinished reports whether name is that of state under construction, now or by a killed call.
func unfinished(name string) bool {
	return strings.HasPrefix(name, buildingPrefix) && name != failedPin && !isMark(name)
}
