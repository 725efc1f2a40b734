// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	flannelConf = `{"cniVersion":"0.3.1","name":"cbr0","type":"flannel"}`
	multusConf  = `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim","logLevel":"verbose","KEYS"}`
)

// Multus starts no pod until a file with this name exists.
func TestAFileThatAnotherConfigurationNamesIsNotReplaced(t *testing.T) {
	multus := func(keys string) string { return strings.Replace(multusConf, `"KEYS"`, keys, 1) }
	for name, c := range map[string]struct {
		file, text string
		want       string // part of the reason; empty: it is chained into
	}{
		"by Multus": {"00-multus.conf",
			multus(`"readinessindicatorfile":"/etc/cni/net.d/10-flannel.conf"`),
			"00-multus.conf (readinessindicatorfile)"},
		"twice": {"00-multus.conf",
			multus(`"readinessindicatorfile":"/x/10-flannel.conf","clusterNetwork":"/x/10-flannel.conf"`),
			"(clusterNetwork, readinessindicatorfile)"},
		"as its pod sees it": {"00-multus.conf",
			multus(`"readinessindicatorfile":"/host/etc/cni/net.d/10-flannel.conf"`), "(readinessindicatorfile)"},
		"within": {"00-multus.conf", multus(`"delegates":[{"conf":["10-flannel.conf"]}]`),
			"(conf)"},
		"in a directory of Multus": {"multus.d/daemon-config.json",
			`{"readinessindicatorfile":"/x/10-flannel.conf"}`, "daemon-config.json (readinessindicatorfile)"},
		"in a broken file": {"00-multus.conf", `{"readinessindicatorfile":"/x/10-flannel.conf",`,
			"00-multus.conf (it cannot be read)"},
		"another file": {"00-multus.conf", multus(`"readinessindicatorfile":"/x/10-flannel.conflist"`),
			""},
		"only a part of the name": {"00-multus.conf", multus(`"readinessindicatorfile":"/x/110-flannel.conf"`),
			""},
		"not a configuration": {"00-multus.conf.bak", multus(`"readinessindicatorfile":"/x/10-flannel.conf"`),
			""},
		"a neighbour without names": {"20-other.conflist", conflists[0].text, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.ConfName = "10-flannel.conf"
			p.write("10-flannel.conf", flannelConf)
			p.writeAll(c.file, c.text)
			before := tree(t, p.ConfDir)
			got, err := p.Chain(t.Context())
			if c.want == "" {
				if err != nil || !got.Changed {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Path != filepath.Join(p.ConfDir, "10-flannel.conf") ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
			p.expectTree("after the refusal", before)
		})
	}
}

// A list is written under its own name, so it does not matter who names it.
func TestAListThatAnotherConfigurationNamesIsChainedInto(t *testing.T) {
	p := newPlace(t)
	p.ConfName = "10-a.conflist"
	p.write("10-a.conflist", conflists[0].text)
	p.write("00-multus.conf", strings.Replace(multusConf, `"KEYS"`,
		`"readinessindicatorfile":"/x/10-a.conflist"`, 1))
	if c := p.install(); !c.Changed {
		t.Errorf("got %+v", c)
	}
	if _, err := os.Stat(filepath.Join(p.ConfDir, "10-a.conflist")); err != nil {
		t.Error(err)
	}
}
