// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/stub"
)

// HasPlugin tells whether runtimes find a plugin of any version at Binary. A stub is none.
func (i *Installer) HasPlugin() (bool, error) {
	binary, err := os.Open(i.Binary())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open installed plugin: %w", err)
	}
	defer binary.Close()
	st, err := binary.Stat()
	if err != nil {
		return false, fmt.Errorf("look at installed plugin: %w", err)
	}
	return st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 && !stub.Marked(binary, st.Size()), nil
}
