// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Embedded, because in a guest there are no files of the repository.
//
//go:embed testdata/abi1.txt
var abi1 string

// cookieABI1 is the network namespace in testdata/abi1.txt.
const cookieABI1 = 680

// pinABI1 makes state of ABI 1 out of the bytes that its programs left.
func pinABI1(t *testing.T, dir string) {
	t.Helper()
	old := layout{dir, stateName(1)}
	mkdir(t, old.state())
	mkdir(t, old.links())
	newPinned(t, old, bpf.SockmapMapSockets, &ebpf.MapSpec{Type: ebpf.SockHash, KeySize: 8, ValueSize: 8,
		MaxEntries: 2048})
	var m *ebpf.Map
	for lines := bufio.NewScanner(strings.NewReader(abi1)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		if shape, ok := strings.CutPrefix(line, "map "); ok {
			var name string
			spec := ebpf.MapSpec{}
			if _, err := fmt.Sscan(shape, &name, &spec.Type, &spec.KeySize, &spec.ValueSize, &spec.MaxEntries,
				&spec.Flags); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			m = newPinned(t, old, name, &spec)
			continue
		}
		key, value, _ := strings.Cut(line, " ")
		putHex(t, m, key, value)
	}
}

func newPinned(t *testing.T, l layout, name string, spec *ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatalf("make %s: %v", name, err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.Pin(l.pin(name)); err != nil {
		t.Fatal(err)
	}
	return m
}

// putHex puts the value of a per-CPU map on the first CPU.
func putHex(t *testing.T, m *ebpf.Map, key, value string) {
	t.Helper()
	k, keyErr := hex.DecodeString(key)
	v, err := hex.DecodeString(value)
	if err := errors.Join(keyErr, err); err != nil {
		t.Fatal(err)
	}
	var one any = v
	if m.Type() == ebpf.PerCPUHash {
		all := make([][]byte, ebpf.MustPossibleCPU())
		for i := range all {
			all[i] = make([]byte, len(v))
		}
		all[0], one = v, all
	}
	if err := m.Put(k, one); err != nil {
		t.Fatal(err)
	}
}

func TestStateOfABI1IsTakenOver(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Fatal("testdata/abi1.txt is of a little-endian machine")
	}
	dir := newStateDir(t)
	pinABI1(t, dir)
	d := mustReplace(t, dir)
	defer func() {
		if err := Unload(dir, true); err != nil {
			t.Error(err)
		}
	}()
	cfg, err := d.Config()
	want := Live{MaxBacklogBytes: 1 << 20, MaxBacklogMessages: 77, NATRefreshSeconds: 60, Coexist: CoexistYield,
		Helpers: HelpersAvoid}
	if err != nil || cfg.Live() != want || cfg.MaxSockets != 2048 || !cfg.Disabled || cfg.Epoch != 1 ||
		cfg.Version != "new" {
		t.Errorf("config %+v, %v", cfg, err)
	}
	ep, ok, err := d.Endpoint(cookieABI1)
	if err != nil || !ok || !ep.Accelerate || ep.Peers != PeersNamespace ||
		!slices.Equal(ep.Include, []PortRange{{First: 8000, Last: 8999}}) ||
		!slices.Equal(ep.Exclude, []PortRange{{First: 8443, Last: 8444}}) {
		t.Errorf("endpoint %+v, %v, %v", ep, ok, err)
	}
	if same, err := (Policy{Namespace: "shop"}).encode(cookieABI1); err != nil || same.Group != ep.Group {
		t.Errorf("group %d, %v, want that of the namespace, %d", ep.Group, err, same.Group)
	}
	totals, err := d.Totals()
	if sums := totals[cookieABI1]; err != nil || sums.RedirectedBytes != 20480 || sums.RedirectedMessages != 2 ||
		sums.Flows[RoleActive][ResultJoined] != 1 || sums.Flows[RolePassive][ResultJoined] != 1 ||
		sums.BacklogHigh != 10240 {
		t.Errorf("totals %+v, %v", sums, err)
	}
	records, err := d.Attachments()
	record := records[NewAttachmentKey("net", "one", "eth0")]
	if err != nil || record.ContainerID != "one" || record.NetNSCookie != cookieABI1 ||
		record.CgroupID != 4711 ||
		record.PodNamespace != "shop" || record.PodName != "till" || record.Declined != "because" {
		t.Errorf("record %+v, %v", record, err)
	}
	avoided, err := d.ListAvoided()
	if err != nil || len(avoided) != 1 {
		t.Errorf("avoided: %+v, %v, want port 8080", avoided, err)
	}
	share, err := d.mapOf(bpf.SockmapMapShares, 32)
	if err != nil || share.Lookup(uint64(cookieABI1), &bpf.SockmapShare{}) != nil {
		t.Errorf("no share of the endpoint: %v", err)
	}
}

func TestSumsOfABI1KeepTheirResults(t *testing.T) {
	old := abi1Totals{BacklogHigh: 99}
	for role := range old.Flows {
		for result := range old.Flows[role] {
			old.Flows[role][result] = uint64(100*role + result + 1)
		}
	}
	for reason := range old.Fallbacks {
		old.Fallbacks[reason] = uint64(1000 + reason)
	}
	value, err := binary.Append(nil, binary.NativeEndian, &old)
	if err != nil {
		t.Fatal(err)
	}
	_, converted, err := fromABI1(bpf.SockmapMapTotals, nil, value)
	if err != nil {
		t.Fatal(err)
	}
	var now bpf.SockmapTotals
	if _, err := binary.Decode(converted, binary.NativeEndian, &now); err != nil {
		t.Fatal(err)
	}
	sums := decodeSums(&now)
	if sums.Flows[RoleActive][ResultJoined] != 1 || sums.Flows[RoleActive][ResultShort] != 13 ||
		sums.Flows[RolePassive][ResultJoined] != 101 || sums.Flows[RolePassive][ResultShort] != 113 ||
		sums.Flows[RolePassive][ResultShare] != 0 {
		t.Errorf("results %v", sums.Flows)
	}
	if sums.Fallbacks[ReasonContended] != 1019 || sums.Fallbacks[ReasonRefresh] != 0 || sums.BacklogHigh != 99 {
		t.Errorf("reasons %v, the most that waited %d", sums.Fallbacks, sums.BacklogHigh)
	}
}

func TestMalformedValuesOfABI1AreRefused(t *testing.T) {
	for _, pin := range []string{bpf.SockmapMapConfig, bpf.SockmapMapTotals, bpf.SockmapMapEndpoints,
		bpf.SockmapMapAttachments, bpf.SockmapMapAvoid} {
		if _, _, err := fromABI1(pin, nil, make([]byte, 7)); err == nil {
			t.Errorf("%s: seven bytes were converted", pin)
		}
	}
}
