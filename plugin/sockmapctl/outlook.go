// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// sayOutlook prints the consequences of an installation: the verdict of doctor for this kernel and this
// entry, and the steps for running containers. If the kernel cannot be examined, the installation has not
// failed.
func (a *app) sayOutlook(ctx context.Context, conf *cniconf.Conf) error {
	v, err := examine(ctx, conf.AcceptHazards, conf.GuardsOff())
	if err != nil {
		fmt.Fprintf(a.stderr, "sockmapctl: whether containers will be accelerated is not known: %v "+
			"(see: sockmapctl doctor)\n", err)
		return nil
	}
	lines := []string{v.Verdict}
	if names := impliedNames(v.Implied); v.Accelerated && names != "" {
		lines = append(lines,
			fmt.Sprintf("programs that use %s see a difference, because no guard keeps them on TCP here; "+
				"see: sockmapctl doctor", names))
	}
	if !v.Accelerated {
		lines = append(lines,
			"until then containers use TCP as before; what the hazards mean: sockmapctl doctor")
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
