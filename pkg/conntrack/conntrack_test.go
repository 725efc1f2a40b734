// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// fake makes a root directory with these files. Their names end in / where they are directories.
func fake(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if name[len(name)-1] == '/' {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestHelpersAreFound(t *testing.T) {
	const modules = "nf_nat_ftp 16384 0 - Live 0x0\nnf_conntrack_ftp 20480 1 nf_nat_ftp, Live 0x0\nnf_conntrack 1 2 nf_conntrack_ftp, Live 0x0\n"
	for name, tt := range map[string]struct {
		files  map[string]string
		want   []Helper
		ranges []portrange.Range
	}{
		"none is loaded": {map[string]string{"sys/module/kernel/": "",
			"sys/module/nf_conntrack/": "", "proc/modules": "nf_conntrack 1 0 - Live 0x0\n"}, nil, nil},
		"no conntrack at all, and no modules": {map[string]string{"sys/module/kernel/": ""}, nil, nil},
		"those of UDP do not count": {map[string]string{
			"sys/module/nf_conntrack_tftp/parameters/ports": "69\n", "sys/module/nf_conntrack_amanda/": "",
			"sys/module/nf_conntrack_snmp/":       "",
			"sys/module/nf_conntrack_netbios_ns/": "", "proc/modules": "",
		}, nil, nil},
		"FTP at its own ports": {map[string]string{
			"sys/module/nf_conntrack_ftp/parameters/ports": "2121,21\n", "sys/module/nf_nat_ftp/": "",
			"proc/modules": modules,
		}, []Helper{{"ftp", []string{"nf_conntrack_ftp", "nf_nat_ftp"}, []uint16{21, 2121}, ""}},
			[]portrange.Range{{First: 21, Last: 21}, {First: 2121, Last: 2121}}},
		"a kernel whose modules have no ports": {map[string]string{
			"sys/module/nf_conntrack_sip/parameters/sip_timeout": "3600\n", "proc/modules": "",
		}, []Helper{{"sip", []string{"nf_conntrack_sip"}, []uint16{5060}, ""}},
			[]portrange.Range{{First: 5060, Last: 5060}}},
		"the NAT module implies it": {map[string]string{"sys/module/nf_nat_irc/": "", "proc/modules": ""},
			[]Helper{{"irc", []string{"nf_nat_irc"}, []uint16{6667}, ""}},
			[]portrange.Range{{First: 6667, Last: 6667}}},
		"parameter of zeros": {map[string]string{"sys/module/nf_conntrack_irc/parameters/ports": "0,0\n",
			"proc/modules": ""},
			[]Helper{{"irc", []string{"nf_conntrack_irc"}, []uint16{6667}, ""}},
			[]portrange.Range{{First: 6667, Last: 6667}}},
		"parameter that nobody understands": {
			map[string]string{"sys/module/nf_conntrack_irc/parameters/ports": "many\n", "proc/modules": ""},
			[]Helper{{"irc", []string{"nf_conntrack_irc"}, []uint16{6667}, `its ports cannot be read: "many"`}},
			[]portrange.Range{{First: 6667, Last: 6667}}},
		"IPVS and those out of the kernel": {map[string]string{
			"sys/module/ip_vs_ftp/parameters/ports": "21,0,0\n", "sys/module/nf_conntrack_rtsp/": "",
			"sys/module/nfnetlink_cthelper/": "", "proc/modules": "",
		}, []Helper{
			{"ipvs-ftp", []string{"ip_vs_ftp"}, []uint16{21}, ""},
			{"rtsp", []string{"nf_conntrack_rtsp"}, []uint16{554}, ""},
			{"user-space", []string{"nfnetlink_cthelper"}, []uint16{111, 1521}, ""},
		}, []portrange.Range{{First: 21, Last: 21}, {First: 111, Last: 111}, {First: 554, Last: 554},
			{First: 1521, Last: 1521}}},
		"all is built in": {map[string]string{
			"sys/module/nf_conntrack/": "", "sys/module/nf_conntrack_ftp/parameters/ports": "21\n",
			"sys/module/nf_conntrack_h323/": "",
		}, []Helper{
			{"ftp", []string{"nf_conntrack_ftp"}, []uint16{21}, ""},
			{"h323", []string{"nf_conntrack_h323"}, []uint16{1720}, ""},
			{"pptp", nil, []uint16{1723}, "may be built in"}, {"sane", nil, []uint16{6566}, "may be built in"},
		}, []portrange.Range{{First: 21, Last: 21}, {First: 1720, Last: 1720}, {First: 1723, Last: 1723},
			{First: 6566, Last: 6566}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Find(fake(t, tt.files))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.ranges, Ranges(got, 16)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Without sysfs, built-in helpers cannot be seen, whatever is in /proc/modules.
func TestHelpersThatCannotBeReadCountAsLoaded(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"nothing":               {},
		"sysfs is hidden":       {"sys/module/": "", "proc/modules": "nf_conntrack 1 0 - Live 0x0\n"},
		"a file in its place":   {"sys/module": "", "proc/modules": ""},
		"no sysfs, FTP is seen": {"proc/modules": "nf_conntrack_ftp 20480 0 - Live 0x0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Find(fake(t, files))
			want := []portrange.Range{{First: 21, Last: 21}, {First: 1720, Last: 1720}, {First: 1723, Last: 1723},
				{First: 5060, Last: 5060}, {First: 6566, Last: 6566}, {First: 6667, Last: 6667}}
			if diff := cmp.Diff(want, Ranges(got, 16)); diff != "" {
				t.Error(diff)
			}
			for _, h := range got {
				if (h.Assumed == "") != (len(h.Modules) > 0) {
					t.Errorf("%+v", h)
				}
			}
		})
	}
	unreadable := fake(t, map[string]string{"sys/module/nf_conntrack_ftp/parameters/ports/": "",
		"proc/modules": ""})
	if got := Find(unreadable); len(got) != 1 || got[0].Assumed == "" || got[0].Ports[0] != 21 {
		t.Errorf("a parameter that cannot be read: %+v", got)
	}
}

func TestRangesAreFewEnough(t *testing.T) {
	helper := func(ports ...uint16) []Helper { return []Helper{{Ports: ports}} }
	for _, tt := range []struct {
		found []Helper
		most  int
		want  []portrange.Range
	}{
		{nil, 16, nil},
		{helper(5, 6, 7, 9), 16, []portrange.Range{{First: 5, Last: 7}, {First: 9, Last: 9}}},
		{helper(9, 7, 9, 65535), 16, []portrange.Range{{First: 7, Last: 7}, {First: 9, Last: 9},
			{First: 65535, Last: 65535}}},
		{append(helper(21, 2121), helper(21, 22)...), 16,
			[]portrange.Range{{First: 21, Last: 22}, {First: 2121, Last: 2121}}},
		{helper(10, 20, 25, 100), 3, []portrange.Range{{First: 10, Last: 10}, {First: 20, Last: 25},
			{First: 100, Last: 100}}},
		{helper(10, 20, 25, 100), 1, []portrange.Range{{First: 10, Last: 100}}},
	} {
		if diff := cmp.Diff(tt.want, Ranges(tt.found, tt.most)); diff != "" {
			t.Errorf("%+v, at most %d: %s", tt.found, tt.most, diff)
		}
	}
}

func TestRangesAreWrittenAsInTheConfiguration(t *testing.T) {
	if got := fmt.Sprint([]portrange.Range{{First: 21, Last: 21},
		{First: 5060, Last: 5061}}); got != "[21 5060-5061]" {
		t.Error(got)
	}
}
