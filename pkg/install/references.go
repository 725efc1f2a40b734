// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxConfig bounds how many bytes are read of a file that may not be a configuration.
const maxConfig = 1 << 20

// planUnnamed refuses to replace a .conf by a list if another configuration names the .conf: Multus starts no
// pod until the file that its key readinessindicatorfile names exists.
func (i *Installer) planUnnamed(n *network) error {
	file := filepath.Base(n.path)
	var references []string
	err := i.eachConfig(func(path string, text []byte) {
		if path == n.path || path == n.path+extList {
			return
		}
		if keys := keysNaming(text, file); len(keys) > 0 {
			references = append(references, fmt.Sprintf("%s (%s)", path, strings.Join(keys, ", ")))
		}
	})
	if err != nil || len(references) == 0 {
		return err
	}
	return fmt.Errorf("it would be replaced by a list, %s, and is named by %s: have a list, NAME%s, written "+
		"in its place, and name that there", file+extList, strings.Join(references, " and "), extList)
}

// eachConfig calls f for each configuration in ConfDir and in its subdirectories, which belong to Multus and
// to networks.
func (i *Installer) eachConfig(f func(path string, text []byte)) error {
	for _, pattern := range []string{"*", "*/*"} {
		paths, err := glob(i.ConfDir, pattern)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if ext := filepath.Ext(path); ext != extConf && ext != extList && ext != extJSON {
				continue
			}
			if text, err := readConfig(path); err == nil {
				f(path, text)
			}
		}
	}
	return nil
}

func readConfig(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fs.ErrInvalid // reading a FIFO would block
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxConfig))
}

// keysNaming returns the keys of a configuration whose value is the path of a file with this name. It does
// not compare the directory, because the reader may see it at another path. Text that is not JSON is searched
// for the name.
func keysNaming(text []byte, file string) []string {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		if bytes.Contains(text, []byte(file+`"`)) {
			return []string{"it cannot be read"}
		}
		return nil
	}
	found := map[string]bool{}
	addKeysNaming(value, "", file, found)
	return slices.Sorted(maps.Keys(found))
}

func addKeysNaming(value any, key, file string, found map[string]bool) {
	switch v := value.(type) {
	case string:
		if filepath.Base(v) == file {
			found[key] = true
		}
	case []any:
		for _, element := range v {
			addKeysNaming(element, key, file, found)
		}
	case map[string]any:
		for k, member := range v {
			addKeysNaming(member, k, file, found)
		}
	}
}
