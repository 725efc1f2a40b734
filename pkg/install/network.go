// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
)

// ErrNoNetwork: there is no network configuration to chain into, yet.
var ErrNoNetwork = errors.New("no network configuration to chain into")

// RefusedError says why the plugin cannot be chained into a file.
type RefusedError struct {
	Path string
	Err  error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("cannot chain into %s: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// Skipped is a file that sorts before the chosen one, and that no runtime can load.
type Skipped struct {
	Path string
	Err  error
}

// network is one configuration file of a runtime.
type network struct {
	path   string
	text   []byte
	single bool // .conf or .json: one plugin and no list
	list   *libcni.NetworkConfigList
}

// The extensions that runtimes load, see ConfFiles of libcni and its callers.
const (
	extList = ".conflist"
	extConf = ".conf"
	extJSON = ".json"
)

// originalSuffix marks a .conf that a list replaces. No runtime loads it.
const originalSuffix = ".sockmap-original"

// loadNetwork reads a file as runtimes do, but without the plugins of the network's directory.
func loadNetwork(path string) (*network, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n := &network{path: path, text: text, single: filepath.Ext(path) != extList}
	if !n.single {
		n.list, err = libcni.ConfListFromBytes(text)
		return n, err
	}
	conf, err := libcni.NetworkPluginConfFromBytes(text)
	if err == nil {
		//lint:ignore SA1019 it is how runtimes load such a file
		n.list, err = libcni.ConfListFromConf(conf)
	}
	return n, err
}

// networkFiles lists the files that a runtime reads, in its order.
func networkFiles(dir string) ([]string, error) {
	// libcni returns no files for a missing directory; here it is an error.
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	files, err := libcni.ConfFiles(dir, []string{extConf, extList, extJSON})
	slices.Sort(files)
	return files, err
}

// chooseNetwork finds the file to chain into: the configured one, or the first that can be loaded.
func (i *Installer) chooseNetwork() (*network, []Skipped, error) {
	if i.ConfName != "" {
		n, err := i.configuredNetwork()
		return n, nil, err
	}
	files, err := networkFiles(i.ConfDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %w", ErrNoNetwork, err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read network configurations: %w", err)
	}
	var skipped []Skipped
	for _, path := range files {
		n, err := loadNetwork(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since the directory was read
		}
		if err != nil {
			skipped = append(skipped, Skipped{path, err})
			continue
		}
		if !n.loopbackOnly() {
			return n, skipped, nil
		}
	}
	err = fmt.Errorf("%w in %s", ErrNoNetwork, i.ConfDir)
	for _, s := range skipped {
		err = fmt.Errorf("%w; %s: %w", err, s.Path, s.Err)
	}
	return nil, skipped, err
}

// configuredNetwork finds the file ConfName, or the list that replaces it.
func (i *Installer) configuredNetwork() (*network, error) {
	path := filepath.Join(i.ConfDir, i.ConfName)
	n, err := loadNetwork(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Ext(path) != extList {
		n, err = loadNetwork(path + extList)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no %s", ErrNoNetwork, path)
	}
	if err != nil {
		return nil, &RefusedError{path, err}
	}
	return n, nil
}

func (n *network) pluginTypes() []string {
	var all []string
	for _, p := range n.list.Plugins {
		all = append(all, p.Network.Type)
	}
	return all
}

// loopbackOnly reports whether a network has only the loopback plugin. Some hosts have such a file beside
// their networks. Runtimes configure loopback themselves, and a node with nothing else has no network yet.
func (n *network) loopbackOnly() bool {
	return len(n.list.Plugins) > 0 &&
		!slices.ContainsFunc(n.pluginTypes(), func(t string) bool { return t != "loopback" })
}

// supported are the CNI versions that the plugin supports, see plugin/sockmap. CRI-O drops a network with
// another version.
var supported = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// check returns why the plugin must not be chained into n, even if n is configured.
func (n *network) check() error {
	if err := n.checkName(); err != nil {
		return err
	}
	if version := n.list.CNIVersion; !slices.Contains(supported, version) {
		if version == "" {
			version = "none"
		}
		return fmt.Errorf("cniVersion %s: sockmap can be chained into lists of version %s", version,
			strings.Join(supported, ", "))
	}
	// A list without plugins of its own has those of its directory.
	types := slices.DeleteFunc(n.pluginTypes(), func(t string) bool { return t == PluginType })
	if len(types) == 0 && len(n.list.Plugins) > 0 {
		return errors.New("no plugin but sockmap: another has to make the interface, before it")
	}
	if len(types) > 0 && !slices.ContainsFunc(types, makesInterface) {
		return fmt.Errorf("no plugin makes an interface (plugins: %s)", strings.Join(n.pluginTypes(), ", "))
	}
	return nil
}

func (n *network) checkName() error {
	if n.list.Name == "" {
		return errors.New("the network has no name")
	}
	if err := utils.ValidateNetworkName(n.list.Name); err != nil {
		return fmt.Errorf("name %q: %s", n.list.Name, err.Msg)
	}
	return nil
}

// makesInterface is false for plugins that are known to make none.
func makesInterface(plugin string) bool {
	switch plugin {
	case "host-local", "dhcp", "static", "whereabouts": // for the key ipam
		return false
	case "portmap", "bandwidth", "firewall", "tuning", "sbr", "vrf", "loopback": // chained ones
		return false
	}
	return true
}

// checkChosen returns why the plugin must not be chained into n unless n is configured.
func (n *network) checkChosen() error {
	types := n.pluginTypes()
	if len(types) > 0 && strings.HasPrefix(types[0], "multus") {
		return errors.New("it belongs to Multus, which rewrites it and passes no cgroup on; chain into the file " +
			"of the network behind it (--cni-conf-name)")
	}
	return nil
}

// CheckConfName refuses values of ConfName that lead to another directory, or that no runtime loads.
func CheckConfName(name string) error {
	if name == "" {
		return nil
	}
	if filepath.Base(name) != name || name == "." || name == ".." {
		return fmt.Errorf("%q is not the name of a file in the directory of network configurations", name)
	}
	if ext := filepath.Ext(name); ext != extList && ext != extConf && ext != extJSON {
		return fmt.Errorf("%q ends with none of %s, %s and %s, so no runtime loads it", name, extList, extConf,
			extJSON)
	}
	return nil
}

// verify compares a list that is about to be written with the list that it replaces. As libcni reads them,
// they must be equal, except for the entry, which is in one place and after another plugin.
func verify(before *libcni.NetworkConfigList, after []byte) error {
	list, err := libcni.ConfListFromBytes(after)
	if err != nil {
		return fmt.Errorf("the result would not load: %w", err)
	}
	if list.Name != before.Name || list.CNIVersion != before.CNIVersion ||
		list.DisableCheck != before.DisableCheck ||
		list.DisableGC != before.DisableGC || list.LoadOnlyInlinedPlugins != before.LoadOnlyInlinedPlugins {
		return errors.New("the result would be another network")
	}
	if !slices.EqualFunc(others(before), others(list), func(a, b *libcni.PluginConfig) bool {
		return sameJSON(a.Bytes, b.Bytes)
	}) {
		return errors.New("the result would have other plugins")
	}
	return nil
}

func others(list *libcni.NetworkConfigList) []*libcni.PluginConfig {
	return slices.DeleteFunc(slices.Clone(list.Plugins), func(p *libcni.PluginConfig) bool {
		return p.Network.Type == PluginType
	})
}
