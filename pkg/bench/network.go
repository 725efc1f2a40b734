// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/filter"
)

// network is a copy of what the plugins bridge and host-local create for two containers: a node with a
// bridge, and a veth pair to each container.
type network struct{ client, server int }

// Addresses in private namespaces.
var (
	nodeAddr   = netip.MustParsePrefix("10.0.0.1/24")
	clientAddr = netip.MustParsePrefix("10.0.0.2/24")
	serverAddr = netip.MustParsePrefix("10.0.0.3/24")
)

const bridgeName = "sockmap-bench"

// makeNetwork creates a network. filtered is whether packets pass the packet filter of the node, as
// bridgeFiltered reports.
func makeNetwork(all *namespaces, filtered bool) (n network, err error) {
	node, err := all.add(func() error { return setUpNode(filtered) })
	if err != nil {
		return n, err
	}
	for _, c := range []struct {
		into *int
		addr netip.Prefix
	}{{&n.client, clientAddr}, {&n.server, serverAddr}} {
		port := "to" + strings.ReplaceAll(c.addr.Addr().String(), ".", "-")
		*c.into, err = all.add(func() error { return setUpContainer(node, port, c.addr) })
		if err == nil {
			err = all.in(node, func() error { return joinBridge(port) })
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func setUpNode(filtered bool) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	if err := bringUp(bridgeName, &nodeAddr); err != nil {
		return err
	}
	if !filtered {
		return switchFilter("0")
	}
	return errors.Join(switchFilter("1"), masquerade())
}

func masquerade() error {
	return filter.Masquerade(bridgeName, nodeAddr, clientAddr.Addr(), serverAddr.Addr())
}

func setUpContainer(node int, port string, addr netip.Prefix) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: port, PeerNamespace: netlink.NsFd(node)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth pair: %w", err)
	}
	return errors.Join(bringUp("lo", nil), bringUp("eth0", &addr))
}

// joinBridge adds port to the bridge in hairpin mode, as the conflist of this project does.
func joinBridge(port string) error {
	link, err := netlink.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find %s: %w", port, err)
	}
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	err = errors.Join(netlink.LinkSetMaster(link, bridge), netlink.LinkSetHairpin(link, true))
	if err != nil {
		return fmt.Errorf("join bridge: %w", err)
	}
	return bringUp(port, nil)
}

func bringUp(name string, addr *netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if addr != nil {
		a, err := netlink.ParseAddr(addr.String())
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("give %s an address: %w", name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// filterSwitch is a setting of the network namespace of the process that opens the file. It exists only where
// br_netfilter is loaded.
const filterSwitch = "/proc/sys/net/bridge/bridge-nf-call-iptables"

// unfiltered is the reason why packets between containers of one bridge do not pass the packet filter of this
// node, as Kubernetes wants it. Empty: they do.
func unfiltered(all *namespaces) string {
	b, err := os.ReadFile(filterSwitch)
	if err != nil || strings.TrimSpace(string(b)) != "1" {
		return "this node does not filter bridged packets"
	}
	if _, err := all.add(masquerade); err != nil {
		return "this kernel has no nf_tables: " + err.Error()
	}
	return ""
}

func switchFilter(value string) error {
	err := os.WriteFile(filterSwitch, []byte(value), 0)
	if err == nil || value == "0" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("switch the packet filter of a bridge: %w", err)
}
