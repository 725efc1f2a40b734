// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

func newReader(text []byte) io.Reader { return bytes.NewReader(text) }

// wrap makes a list of the one plugin of a .conf, as libcni does when it loads one: with the name, the
// version and the bytes of the plugin.
func (n *network) wrap() ([]byte, error) {
	name, err := json.Marshal(n.list.Name)
	if err != nil {
		return nil, err
	}
	version, err := json.Marshal(n.list.CNIVersion)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "{\n  \"cniVersion\": %s,\n  \"name\": %s,\n  \"plugins\": [\n    %s\n  ]\n}\n",
		version, name,
		bytes.TrimSpace(n.text)), nil
}

// planConvert plans a list that replaces a .conf. The list's name is derived from the file's, so that it
// sorts at the same place. The list is written before the .conf is renamed, so that the node has this network
// at any moment.
func (i *Installer) planConvert(p *plan, n *network) error {
	if err := i.planUnnamed(n); err != nil {
		return err
	}
	list, err := n.wrap()
	if err != nil {
		return err
	}
	l, err := readList(list)
	if err != nil {
		return err
	}
	p.Path, p.Original = n.path+extList, n.path
	if p.After, err = l.chained(i.Entry); err != nil {
		return err
	}
	if err := verify(n.list, p.After); err != nil {
		return err
	}
	p.Before, err = os.ReadFile(p.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(p.Before, p.After) {
		p.add(func() error {
			as, err := fileAttributesOf(n.path)
			if err != nil {
				return err
			}
			return i.publish(n.path+extList, newReader(p.After), as)
		})
	}
	p.add(func() error { return i.rename(n.path, n.path+originalSuffix) })
	return nil
}

// originalOf returns the .conf that a list replaces. ok is false if the list's name does not say so, or if
// the .conf is neither there nor kept.
func originalOf(list string) (conf string, ok bool, err error) {
	conf, ok = strings.CutSuffix(list, extList)
	if !ok || !strings.HasSuffix(conf, extConf) && !strings.HasSuffix(conf, extJSON) {
		return "", false, nil
	}
	ok, err = anyExists(conf, conf+originalSuffix)
	return conf, ok, err
}

// restoreConf removes the list n, which replaces conf, and restores conf as it was. It returns false if there
// is nothing to restore, or if others have changed the list, so that the .conf would differ.
func (i *Installer) restoreConf(n *network, conf string) (bool, error) {
	again, err := exists(conf)
	if err != nil {
		return false, err
	}
	from := conf + originalSuffix
	if again {
		from = conf // its owner has written it again, or an earlier call has restored it
	}
	original, err := loadNetwork(from)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", from, err)
	}
	ours, err := i.isMadeFrom(n, original, conf)
	if err != nil || !ours {
		return false, err
	}
	if !again {
		if err := i.rename(from, conf); err != nil {
			return false, err
		}
	}
	_, err = i.remove(n.path)
	return true, errors.Join(err, i.removeOriginal(conf))
}

// isMadeFrom reports whether this package made the list n from conf. If conf exists again, its owner has
// written it since, so the list may differ from it. A list that only has a matching name belongs to somebody
// else.
func (i *Installer) isMadeFrom(n, original *network, conf string) (bool, error) {
	if original.path == conf {
		if kept, err := exists(conf + originalSuffix); kept || err != nil {
			return kept, err
		}
		if !slices.Contains(n.pluginTypes(), PluginType) {
			return false, nil
		}
	}
	return n.standsFor(original)
}

// standsFor reports whether the list equals the converted .conf, apart from this plugin's entry.
func (n *network) standsFor(original *network) (bool, error) {
	l, err := readList(n.text)
	if err != nil {
		return false, err
	}
	without, err := l.unchained()
	if err != nil {
		return false, err
	}
	list, err := original.wrap()
	return err == nil && sameJSON(without, list), err
}

func (i *Installer) removeOriginal(conf string) error {
	_, err := i.remove(conf + originalSuffix)
	return err
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
