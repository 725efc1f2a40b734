// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// sayOutlook ends an installation with what comes of it: what doctor says of this kernel with that entry, and
// what has to be done for containers that run. That the kernel cannot be examined is no failure of the
// installation.
func (a *app) sayOutlook(ctx context.Context, conf *cniconf.Conf) error {
	v, err := examine(ctx, conf.AcceptHazards, conf.GuardsOff())
	if err != nil {
		fmt.Fprintf(a.stderr, "sockmapctl: whether containers will be accelerated is not known: %v "+
			"(see: sockmapctl doctor)\n", err)
		return nil
	}
	lines := []string{v.Verdict}
	if names := impliedNames(v.Implied); v.Accelerated && names != "" {
		lines = append(lines, fmt.Sprintf("programs that use %s see a difference, because no guard keeps them on TCP here; "+
			"see: sockmapctl doctor", names))
	}
	if !v.Accelerated {
		lines = append(lines, "until then containers use TCP as before; what the hazards mean: sockmapctl doctor")
	} else {
		lines = append(lines, "running containers are not accelerated until they are recreated "+
			"(Kubernetes: kubectl rollout restart)")
	}
	for _, line := range lines {
		if err := a.say("%s", line); err != nil {
			return err
		}
	}
	return nil
}

func impliedNames(all []impliedView) string {
	var names []string
	for _, v := range all {
		names = append(names, v.Name)
	}
	return strings.Join(names, ", ")
}
