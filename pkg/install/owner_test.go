// SPDX-License-Identifier: Apache-2.0

package install

import (
	"strings"
	"testing"
)

func TestTheOwnerOfANetworkIsGuessed(t *testing.T) {
	for want, c := range map[string]Chained{
		"cni.exclusive": {Path: "/x/05-cilium.conflist", Network: "cilium", Main: "cilium-cni"},
		"kindnetd":      {Path: "/x/10-kindnet.conflist", Network: "kindnet", Main: "ptp"},
		"kube-router":   {Path: "/x/10-kuberouter.conflist", Network: "cbr0", Main: "bridge"},
		"spiderpool":    {Path: "/x/00-spiderpool.conflist", Network: "spiderpool", Main: "macvlan"},
		"terway":        {Path: "/x/10-terway.conflist", Network: "terway", Main: "terway"},
		"azure-cns":     {Path: "/x/10-azure.conflist", Network: "azure", Main: "azure-vnet"},
		"K3s":           {Path: "/x/10-flannel.conflist", Network: "cbr0", Main: "flannel"},
	} {
		if got := Owner(c); !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
	if got := Owner(Chained{Path: "/x/10-a.conflist", Network: "a", Main: "bridge"}); got != "" {
		t.Errorf("of an unknown network it says %q", got)
	}
}
