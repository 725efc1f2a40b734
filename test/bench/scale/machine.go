// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// machine also checks that containers are accelerated, before anything is measured.
func (s *suite) machine(ctx context.Context) (m result.Machine, err error) {
	node, err := pods.Node(ctx, &s.log)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	if _, err := pods.New(ctx, node, "probe", 0, true); err != nil {
		return m, err
	}
	guards, err := pods.Guards(node)
	if err != nil {
		return m, err
	}
	return result.ThisMachine(guards)
}
