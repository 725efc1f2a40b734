// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { fixture.Main(m) }

func TestEachContainerIsMasqueraded(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root is needed")
	}
	runtime.LockOSThread() // never unlocked: the thread, and its network namespace, end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	containers := []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.3")}
	if err := Masquerade("test", netip.MustParsePrefix("10.1.0.0/24"), containers...); err != nil {
		t.Fatal(err)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Name: "test", Family: nftables.TableFamilyIPv4}
	rules, err := c.GetRules(table, &nftables.Chain{Name: "postrouting", Table: table})
	if err != nil || len(rules) != len(containers) {
		t.Fatalf("%d rules, %v", len(rules), err)
	}
	for i, r := range rules {
		source, masqueraded := false, false
		for _, e := range r.Exprs {
			switch e := e.(type) {
			case *expr.Cmp:
				addr, ok := netip.AddrFromSlice(e.Data)
				source = source || ok && e.Op == expr.CmpOpEq && addr == containers[i]
			case *expr.Masq:
				masqueraded = true
			}
		}
		if !source || !masqueraded {
			t.Errorf("rule %d: from the container %v, masquerades %v", i, source, masqueraded)
		}
	}
}
