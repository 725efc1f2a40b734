// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"sync"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// sources are the files of which the probes are made.
//
//go:embed confirm.go interrupt.go mixed.go mptcp.go pair.go probes.go run.go
var sources embed.FS

// Digest identifies these probes: others may have different results on the same kernel. It is made from their
// source text, so no number is written twice.
var Digest = sync.OnceValue(func() string {
	h := sha256.New()
	files, _ := fs.Glob(sources, "*.go")
	for _, name := range files {
		text, _ := sources.ReadFile(name)
		h.Write(text)
	}
	for _, one := range hazard.Table {
		fmt.Fprintln(h, one.Bit, one.Name)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
})
