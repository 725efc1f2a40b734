// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// digestPin is a symbolic link whose target is the Digest of what is loaded. It is missing during an upgrade,
// so that the next call repeats one that was killed.
const digestPin = "programs"

// Digest names the programs that are built into this one. Equal digests are equal programs, whatever the
// versions say.
var Digest = sync.OnceValue(func() string {
	h := sha256.New()
	for _, object := range bpf.Pinned() {
		h.Write(object)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
})

func recordDigest(dir string) error {
	if err := os.Symlink(Digest(), filepath.Join(dir, digestPin)); err != nil {
		return fmt.Errorf("record which programs are loaded: %w", err)
	}
	return nil
}

// Digest names the programs that are loaded. It is empty when an upgrade was not finished.
func (d *Datapath) Digest() string { return d.noted(digestPin) }

// noted returns the target of a symbolic link among the pins; empty if there is none.
func (d *Datapath) noted(pin string) string {
	text, err := os.Readlink(d.layout.pin(pin))
	if err != nil {
		return ""
	}
	return text
}
