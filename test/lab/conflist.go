// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// A Network describes how a conflist of the repository is changed for a node.
type Network struct {
	// Base is the conflist to begin with; if nil, the file of this name is
	// read from the repository's conf/, 10-sockmap.conflist if empty.
	Base []byte
	File string

	// Empty fields leave the value of the conflist unchanged.
	Name       string
	CNIVersion string
	Bridge     string         // at most 15 characters; two nodes may use the same name
	Subnets    []netip.Prefix // one for each address family

	// Without are types of plugins that are taken out of the chain.
	Without []string
	// Set has, by type of plugin, the keys to set in its entry; nil removes a key. Sockmap's bpffsPath is
	// always set to the node's, if the chain has a sockmap.
	Set map[string]map[string]any
	// Extra are entries put at the end of the chain.
	Extra []map[string]any
}

// Conflist makes the conflist that w describes for this node. Addresses are leased below the node's directory
// and sockmap pins at BPFFS. The bridge does not masquerade, because that needs a program that a machine may
// lack.
func (n *Node) Conflist(w Network) ([]byte, error) {
	base, err := w.read()
	if err != nil {
		return nil, err
	}
	var list map[string]any
	d := json.NewDecoder(bytes.NewReader(base))
	d.UseNumber() // 4294967296 must not become 4.294967296e+09
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("parse conflist: %w", err)
	}
	setIf(list, "name", w.Name)
	setIf(list, "cniVersion", w.CNIVersion)
	var chain []any
	plugins, _ := list["plugins"].([]any)
	for _, entry := range plugins {
		plugin, ok := entry.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("parse conflist: plugin is %T", entry)
		}
		typ, _ := plugin["type"].(string)
		if slices.Contains(w.Without, typ) {
			continue
		}
		n.adapt(typ, plugin, w)
		chain = append(chain, plugin)
	}
	for _, extra := range w.Extra {
		chain = append(chain, extra)
	}
	list["plugins"] = chain
	return json.Marshal(list)
}

func (w Network) read() ([]byte, error) {
	if w.Base != nil {
		return w.Base, nil
	}
	root, err := RepoRoot()
	if err != nil {
		return nil, err
	}
	file := w.File
	if file == "" {
		file = "10-sockmap.conflist"
	}
	b, err := os.ReadFile(filepath.Join(root, "conf", file))
	if err != nil {
		return nil, fmt.Errorf("read conflist: %w", err)
	}
	return b, nil
}

// adapt changes one entry of the chain.
func (n *Node) adapt(typ string, plugin map[string]any, w Network) {
	switch typ {
	case "bridge", "ptp":
		plugin["ipMasq"] = false
		if typ == "bridge" {
			setIf(plugin, "bridge", w.Bridge)
		}
		if ipam, ok := plugin["ipam"].(map[string]any); ok && ipam["type"] == "host-local" {
			ipam["dataDir"] = filepath.Join(n.dir, "ipam")
			subnets(ipam, w.Subnets)
		}
	case "sockmap":
		plugin["bpffsPath"] = n.bpffs
	}
	for key, value := range w.Set[typ] {
		if value == nil {
			delete(plugin, key)
		} else {
			plugin[key] = value
		}
	}
}

// subnets gives each subnet a range of addresses and a default route.
func subnets(ipam map[string]any, prefixes []netip.Prefix) {
	if len(prefixes) == 0 {
		return
	}
	var ranges, routes []any
	for _, p := range prefixes {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if p.Addr().Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		ranges = append(ranges, []any{map[string]any{"subnet": p.String()}})
		routes = append(routes, map[string]any{"dst": all.String()})
	}
	delete(ipam, "subnet") // the older form of ranges
	ipam["ranges"], ipam["routes"] = ranges, routes
}

func setIf(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	}
}
