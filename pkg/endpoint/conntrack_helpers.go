// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/conntrack"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Helpers finds the conntrack helpers that are loaded on this node now, and their ports.
func (n *Node) Helpers() (found []conntrack.Helper, ports []datapath.PortRange) {
	found = conntrack.Find(cmp.Or(n.Root, "/"))
	return found, conntrack.Ranges(found, datapath.MaxPortRanges)
}

// RefreshHelpers applies the ports of the conntrack helpers that are loaded now, for live flows too. It
// reports whether they have changed, and takes the lock only if they have. It returns datapath.ErrNotLoaded
// if nothing is loaded.
func (n *Node) RefreshHelpers(ctx context.Context) (changed bool, err error) {
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return false, err
	}
	_, ports := n.Helpers()
	inForce, _, err := d.HelperPorts()
	if err := errors.Join(err, d.Close()); err != nil || slices.Equal(inForce, ports) {
		return false, err
	}
	s, err := n.beginLoaded(ctx)
	if err != nil {
		return false, err
	}
	defer s.end()
	return s.applyHelpers()
}

// applyHelpers is RefreshHelpers within a session.
func (s *session) applyHelpers() (changed bool, err error) {
	found, ports := s.Helpers()
	inForce, ignored, err := s.d.HelperPorts()
	if err != nil || slices.Equal(inForce, ports) {
		return false, err
	}
	if err := s.step("helpers"); err != nil {
		return false, err
	}
	var names []string
	for _, h := range found {
		names = append(names, h.Name)
	}
	s.log().Info("the conntrack helpers of this node have changed", "helpers", strings.Join(names, ", "),
		"ports", fmt.Sprint(conntrack.Ranges(found, datapath.MaxPortRanges)), "ignored", ignored)
	return s.d.SetHelperPorts(ports)
}
