// SPDX-License-Identifier: Apache-2.0

package live_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/livetest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// filterOf reads flags such as "pod=web-0,db-0 port=!22".
func filterOf(t *testing.T, flags string) (*live.Filter, error) {
	t.Helper()
	f := new(live.Filter)
	for flag := range strings.FieldsSeq(flags) {
		name, values, _ := strings.Cut(flag, "=")
		if !slices.ContainsFunc(live.Fields, func(f live.Field) bool { return f.Name == name }) {
			t.Fatalf("no field %q", name)
		}
		*f.Values(name) = append(*f.Values(name), strings.Split(values, ",")...)
	}
	return f, f.Check()
}

func TestFiltersPickFlows(t *testing.T) {
	all := livetest.Flows()
	for _, tt := range []struct {
		name, flags string
		want        []int
	}{
		{"nothing asked", "", []int{0, 1, 2, 3, 4}},
		{"pod", "pod=web-0", []int{0, 1, 4}},
		{"pod with namespace", "pod=data/db-0", []int{0, 1}},
		{"pod in another namespace", "pod=shop/db-0", nil},
		{"one of two pods", "pod=db-0,cache-0", []int{0, 1, 2, 3}},
		{"not a pod", "pod=!db-0", []int{2, 3, 4}},
		{"namespace", "namespace=data", []int{0, 1, 2, 3}},
		{"pod and namespace of one end", "namespace=data pod=web-0", nil},
		{"a namespace without a pod", "namespace=shop pod=!shop/web-1", []int{0, 1, 4}},
		{"network namespace", "netns=7", []int{2}},
		{"not a network namespace", "netns=!7", []int{0, 1, 3, 4}},
		{"address", "address=10.1.0.3", []int{0, 1}},
		{"v4-mapped address", "address=::ffff:10.1.0.3", []int{0, 1}},
		{"prefix", "address=10.0.0.0/8", []int{0, 1, 4}},
		{"prefix without an address of it", "address=10.0.0.0/8,!10.9.9.9", []int{0, 1}},
		{"v6", "address=[fd00::4]", []int{2, 3}},
		{"port", "port=5432", []int{0, 1}},
		{"port of a client", "port=4001", nil},
		{"ports", "port=8000-8999,443", []int{2, 3, 4}},
		{"not a port", "port=!443", []int{0, 1, 2, 3}},
		{"ports without one of them", "port=1-9000,!8080", []int{0, 1, 4}},
		{"mode", "mode=tcp,pending", []int{1, 4}},
		{"not a mode", "mode=!redirect", []int{1, 4}},
		{"reason", "reason=unread", []int{1}},
		{"role", "role=passive", []int{1, 3}},
		{"all have to fit", "role=active port=5432", []int{0}},
	} {
		f, err := filterOf(t, tt.flags)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		flows := livetest.Flows()
		flows[2].NetNSCookie = 7
		var got []int
		for _, f := range f.Flows(flows) {
			got = append(got, slices.IndexFunc(all, func(a live.Flow) bool {
				return a.Key == f.Key && a.Local == f.Local
			}))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestErrorsOfFiltersNameFlagValueAndAcceptedValues(t *testing.T) {
	for flags, want := range map[string]string{
		"port=80,http": `--port: "http" is not a port, or a range of ports, from 1 to 65535`,
		"port=!0":      `--port: "!0" is not a port, or a range of ports, from 1 to 65535`,
		"address=10.1": `--address: "10.1" is not an IP address, or a prefix such as 10.1.0.0/16`,
		"pod=a/b/c":    `--pod: "a/b/c" is not a name, or NAMESPACE/NAME`,
		"namespace=a/": `--namespace: "a/" is not a name of a namespace`,
		"netns=blue":   `--netns: "blue" is not a netns cookie (see flows -o wide), or the path of a network namespace`,
		"mode=fast":    `--mode: "fast" is not pending, redirect, tcp or left`,
		"role=server":  `--role: "server" is not active or passive`,
	} {
		if _, err := filterOf(t, flags); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", flags, err, want)
		}
	}
	if _, err := filterOf(t, "netns=/nowhere"); !os.IsNotExist(err) &&
		(err == nil || !strings.HasPrefix(err.Error(), "--netns: ")) {
		t.Errorf("a path that does not exist: %v", err)
	}
}

// A tap lets the kernel apply the filters that the kernel can apply.
func TestSingleValueOfAFilterIsAppliedByTheKernel(t *testing.T) {
	for _, tt := range []struct {
		flags string
		port  uint16
		netns uint64
		names bool
	}{
		{"", 0, 0, false}, {"port=80", 80, 0, false}, {"port=80,81", 0, 0, false}, {"port=!80", 0, 0, false},
		{"port=80-90", 0, 0, false},
		{"netns=7", 0, 7, true}, {"netns=!7", 0, 0, false}, {"pod=web-0", 0, 0, true}, {"pod=!web-0", 0, 0, false},
	} {
		f, err := filterOf(t, tt.flags)
		if err != nil {
			t.Error(err)
		}
		if f.OnlyPort() != tt.port || f.OnlyNetNS() != tt.netns || f.NamesOwners() != tt.names {
			t.Errorf("%q: port %d, netns %d, names %v", tt.flags, f.OnlyPort(), f.OnlyNetNS(), f.NamesOwners())
		}
	}
}

func TestBothEndsOfAFlowStayTogether(t *testing.T) {
	f, err := filterOf(t, "mode=tcp")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.BothEnds(livetest.Flows()); len(got) != 2 || got[0].Role == got[1].Role {
		t.Errorf("%+v", got)
	}
}
