// SPDX-License-Identifier: Apache-2.0

// Package conntrack finds out which helpers of the kernel read, and rewrite, the payload of TCP connections:
// those of conntrack (FTP, SIP, IRC, ...) and of IPVS. A helper sees packets, and redirected bytes are in
// none.
//
// A helper that is loaded, or built in, counts as in use: to find the rules that assign it, in each network
// namespace, would cost an ADD too much. A helper that cannot be ruled out counts as in use, too.
//
// Only files of the kernel are read, and only those with the same content in every container, so that the
// plugin and the agent find the same helpers.
package conntrack

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
)

// helper is one that reads TCP. Those of amanda, netbios-ns, snmp and tftp read UDP only.
type helper struct {
	name    string
	ports   []uint16 // that it reads unless its parameter says otherwise
	modules []string // any of which means that it is there; the first has the parameter `ports`, if any has
	common  bool     // part of the kernel, so it may be there where nothing can be read
	hidden  bool     // built in, it is not in /sys/module: no parameter
}

// From the kernel's sources (net/netfilter, net/netfilter/ipvs, include/linux/netfilter), for all but the
// last two.
var helpers = []helper{
	{"ftp", []uint16{21}, []string{"nf_conntrack_ftp", "nf_nat_ftp"}, true, false},
	{"h323", []uint16{1720}, []string{"nf_conntrack_h323", "nf_nat_h323"}, true, false},
	{"irc", []uint16{6667}, []string{"nf_conntrack_irc", "nf_nat_irc"}, true, false},
	{"pptp", []uint16{1723}, []string{"nf_conntrack_pptp", "nf_nat_pptp"}, true, true},
	{"sane", []uint16{6566}, []string{"nf_conntrack_sane"}, true, true},
	{"sip", []uint16{5060}, []string{"nf_conntrack_sip", "nf_nat_sip"}, true, false},
	{"ipvs-ftp", []uint16{21}, []string{"ip_vs_ftp"}, true, false},
	{"rtsp", []uint16{554}, []string{"nf_conntrack_rtsp", "nf_nat_rtsp"}, false, false}, // out of tree
	{"user-space", []uint16{111, 1521}, []string{"nfnetlink_cthelper"}, false, false},   // RPC, Oracle's TNS
}

// Helper is a helper that is, or may be, in use.
type Helper struct {
	Name    string
	Modules []string // that are there; empty where that is assumed
	Ports   []uint16 // of TCP, sorted
	Assumed string   // why it, or its ports, are assumed; empty where they were read
}

// Find looks below root, which is "/" but in tests.
func Find(root string) []Helper {
	k := newKernel(root)
	var found []Helper
	for _, h := range helpers {
		if one, ok := k.find(h); ok {
			found = append(found, one)
		}
	}
	return found
}

// kernel is what is known of modules.
type kernel struct {
	root   string
	hiding string          // why /sys/module cannot be trusted; empty: it can
	loaded map[string]bool // of /proc/modules
	static bool            // built without modules
}

func newKernel(root string) kernel {
	k := kernel{root: root, loaded: map[string]bool{}}
	if err := someEntry(filepath.Join(root, "sys/module")); err != nil {
		k.hiding = "cannot be read: " + reason(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "proc/modules"))
	k.static = errors.Is(err, fs.ErrNotExist) && k.exists("nf_conntrack")
	for line := range bytes.Lines(text) {
		name, _, _ := strings.Cut(string(line), " ")
		k.loaded[name] = true
	}
	return k
}

// someEntry returns an error for a directory in which there is nothing: sysfs is not mounted there, or it is
// hidden.
func someEntry(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return errors.New("/sys/module is empty")
	}
	return err
}

// reason leaves the path out, which is known.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

func (k kernel) exists(module string) bool {
	_, err := os.Stat(filepath.Join(k.root, "sys/module", module))
	return err == nil || k.loaded[module]
}

func (k kernel) find(h helper) (Helper, bool) {
	one := Helper{Name: h.name, Ports: slices.Clone(h.ports)}
	for _, m := range h.modules {
		if k.exists(m) {
			one.Modules = append(one.Modules, m)
		}
	}
	switch {
	case len(one.Modules) > 0:
		k.readPorts(&one, h.modules[0])
	case k.hiding != "" && h.common:
		one.Assumed = k.hiding
	case k.static && h.hidden:
		one.Assumed = "may be built in"
	default:
		return Helper{}, false
	}
	slices.Sort(one.Ports)
	one.Ports = slices.Compact(one.Ports)
	return one, true
}

// readPorts reads the parameter, where the module has it: newer kernels took it away.
func (k kernel) readPorts(h *Helper, module string) {
	text, err := os.ReadFile(filepath.Join(k.root, "sys/module", module, "parameters/ports"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		h.Assumed = "its ports cannot be read: " + reason(err)
		return
	}
	var ports []uint16
	for field := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		port, err := strconv.ParseUint(field, 10, 16)
		if err != nil {
			h.Assumed = "its ports cannot be read: " + strconv.Quote(strings.TrimSpace(string(text)))
			return
		}
		if port != 0 {
			ports = append(ports, uint16(port))
		}
	}
	if len(ports) > 0 {
		h.Ports = ports
	}
}

// Ranges are the ports of all helpers, sorted, in at most so many ranges. Where that is too few, those that
// are nearest to each other become one with what is between them.
func Ranges(found []Helper, most int) []portrange.Range {
	var ports []portrange.Range
	for _, h := range found {
		for _, p := range h.Ports {
			ports = append(ports, portrange.Range{First: p, Last: p})
		}
	}
	ranges := portrange.Join(ports)
	for len(ranges) > most {
		i := nearest(ranges)
		ranges[i].Last = ranges[i+1].Last
		ranges = slices.Delete(ranges, i+1, i+2)
	}
	return ranges
}

// nearest is the index of the range that is followed by the smallest gap. There are two at least.
func nearest(ranges []portrange.Range) (best int) {
	gap := func(i int) int { return int(ranges[i+1].First) - int(ranges[i].Last) }
	for i := range len(ranges) - 1 {
		if gap(i) < gap(best) {
			best = i
		}
	}
	return best
}
