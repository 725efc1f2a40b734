// SPDX-License-Identifier: Apache-2.0

package hazard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"sync"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// sources are the files of which the probes are made.
//
//go:embed confirm.go interrupt.go mixed.go mptcp.go pair.go probes.go run.go
var sources embed.FS

// ProbeSet names these probes: what others have found on the same kernel may differ. It is made from their source text, so
// nobody has to remember a number.
var ProbeSet = sync.OnceValue(func() string {
	h := sha256.New()
	files, _ := fs.Glob(sources, "*.go")
	for _, name := range files {
		text, _ := sources.ReadFile(name)
		h.Write(text)
	}
	for _, hazard := range cniconf.Hazards {
		fmt.Fprintln(h, hazard.Name) // their order is that of the bits that are recorded
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
})
