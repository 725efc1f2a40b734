// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
)

// dropInName sorts after most other names: runtimes chain the files of a network's directory in the order of
// their names.
const dropInName = "90-sockmap.conf"

// planDropIn plans a file with the entry, in the directory that has the name of the network. Runtimes with
// libcni 1.3 or newer append the plugins of that directory to those of the list.
func (i *Installer) planDropIn(p *plan, n *network) error {
	if n.single {
		return errors.New("it is no list, and only lists have a directory of plugins (chain without drop-in)")
	}
	if n.list.LoadOnlyInlinedPlugins {
		return errors.New(`it says "loadOnlyInlinedPlugins", ` +
			`so runtimes ignore its directory (chain without drop-in)`)
	}
	dir := filepath.Join(i.ConfDir, n.list.Name)
	p.Path = filepath.Join(dir, dropInName)
	if err := i.checkDir(n, dir, p.Path); err != nil {
		return err
	}
	p.After = append(i.Entry.layout([]byte("\n")), '\n')
	var err error
	p.Before, err = os.ReadFile(p.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(p.Before, p.After) {
		p.add(func() error { return i.writeDropIn(n.path, p.Path, p.After) })
	}
	if err := i.planNotInline(p, n); err != nil {
		return err
	}
	return i.planNoDropIns(p, p.Path)
}

// checkDir returns an error unless the network has a plugin before this one, and all files in its directory
// can be loaded.
func (i *Installer) checkDir(n *network, dir, own string) error {
	others, err := libcni.NetworkPluginConfsFromFiles(i.ConfDir, n.list.Name)
	if err != nil {
		return &RefusedError{dir, err}
	}
	for _, o := range others {
		if o.Network.Type != PluginType {
			return nil
		}
	}
	if len(n.pluginTypes()) == 0 {
		return fmt.Errorf("neither it nor %s has a plugin that makes the interface", filepath.Dir(own))
	}
	return nil
}

func (i *Installer) writeDropIn(list, path string, text []byte) error {
	as, err := fileAttributesOf(list)
	if err != nil {
		return err
	}
	if err := i.step("make directory"); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	there, err := exists(dir)
	if err != nil {
		return err
	}
	// The temporary file is in ConfDir, because containerd watches only that directory and notices that it
	// disappears.
	write := func() error { return i.publishBy(i.ConfDir, path, newReader(text), as.withoutUserAttributes()) }
	if there {
		return write()
	}
	done, err := i.markDirInWork(dir)
	if err != nil {
		return err
	}
	err = os.Mkdir(dir, 0o755)
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = write()
	}
	return errors.Join(err, done(err != nil))
}

// planNotInline removes the entry from the list, where the plugin would run a second time.
func (i *Installer) planNotInline(p *plan, n *network) error {
	l, err := readList(n.text)
	if errors.Is(err, errNoPlugins) {
		return nil
	}
	if err != nil {
		return err
	}
	after, err := l.unchained()
	if err != nil {
		return err
	}
	return i.planRewrite(p, n, after)
}

// planNoDropIns removes the drop-ins of this plugin, except one.
func (i *Installer) planNoDropIns(p *plan, but string) error {
	paths, err := i.dropIns()
	if err != nil {
		return err
	}
	for _, path := range paths {
		if path != but {
			p.add(func() error { return i.removeDropIn(path) })
		}
	}
	return nil
}

// dropIns lists the drop-ins of this plugin, of all networks.
func (i *Installer) dropIns() ([]string, error) {
	// Not by a pattern: the directory's name may contain characters of patterns.
	entries, err := os.ReadDir(i.ConfDir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		path := filepath.Join(i.ConfDir, e.Name(), dropInName)
		text, err := os.ReadFile(path)
		if err == nil && typeOf(text) == PluginType {
			found = append(found, path)
		}
	}
	return found, nil
}

func (i *Installer) removeDropIn(path string) error {
	done, err := i.markDirInWork(filepath.Dir(path))
	if err != nil {
		return err
	}
	_, err = i.remove(path)
	if err = errors.Join(err, done(err == nil)); err != nil {
		return err
	}
	i.touchConfDir()
	return nil
}
