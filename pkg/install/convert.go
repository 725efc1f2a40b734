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

// wrap makes a list of the one plugin of a .conf, as libcni does when it loads one: with its name and its version, and
// with the plugin's own bytes.
func (n *network) wrap() ([]byte, error) {
	name, err := json.Marshal(n.list.Name)
	if err != nil {
		return nil, err
	}
	version, err := json.Marshal(n.list.CNIVersion)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "{\n  \"cniVersion\": %s,\n  \"name\": %s,\n  \"plugins\": [\n    %s\n  ]\n}\n", version, name,
		bytes.TrimSpace(n.text)), nil
}

// planConvert makes a list that stands in for a .conf. The list is named after the file, so that it sorts where the
// file did, and it is there before the file goes: at no moment is the node without this network.
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

// originalOf returns the .conf that a list stands in for. The list's name says so, and that the .conf is there or kept.
func originalOf(list string) (conf string, ok bool, err error) {
	conf, ok = strings.CutSuffix(list, extList)
	if !ok || !strings.HasSuffix(conf, extConf) && !strings.HasSuffix(conf, extJSON) {
		return "", false, nil
	}
	ok, err = anyExists(conf, conf+originalSuffix)
	return conf, ok, err
}

// restoreConf takes away the list n, which stands in for conf, and puts conf back as it was. It reports false when
// there is nothing to put back, or when others have changed the list so that the file would not say the same.
func (i *Installer) restoreConf(n *network, conf string) (bool, error) {
	again, err := exists(conf)
	if err != nil {
		return false, err
	}
	from := conf + originalSuffix
	if again {
		from = conf // whoever it belongs to wrote it anew, or an earlier call has put it back
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

// isMadeFrom tells whether the list n is one that this package has made of conf. Where conf is there again, whoever it belongs
// to has written it since, so the list need not say the same. A list that nothing but its name connects with this
// package belongs to somebody else.
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

// standsFor tells whether the list is what a .conf becomes, but for this plugin's entry.
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
