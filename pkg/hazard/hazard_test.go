// SPDX-License-Identifier: Apache-2.0

package hazard_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestSetsAndNames(t *testing.T) {
	if got := hazard.SetOf("splice", "fin", "nonsense").Names(); !cmp.Equal(got, []string{"splice", "fin"}) {
		t.Errorf("%v", got)
	}
	for _, severe := range []string{"splice", "eagain"} {
		if got := hazard.SetOf(severe).Severe().String(); got != severe {
			t.Errorf("%s is not severe: %v", severe, got)
		}
	}
	if got := hazard.SetOf("splice", "mptcp", "fin", "backpressure").OfNode().Names(); !cmp.Equal(got, []string{"mptcp", "backpressure"}) {
		t.Errorf("of the node are %v", got)
	}
}

// pinned has the bits that released versions have written into pinned state. A row is added for a new hazard, and none is
// ever changed.
var pinned = map[string]uint{
	"splice": 0, "fionread-redirected": 1, "fionread-tcp": 2, "zerocopy": 3, "memory-charge": 4, "ktls": 5, "mptcp": 6,
	"backpressure": 7, "fin": 8, "epoll-edge": 9, "eagain": 10, "edge-mixed": 11,
}

func TestBitsNeverChange(t *testing.T) {
	bits := map[uint]string{}
	for _, h := range hazard.Table {
		if other, taken := bits[h.Bit]; taken {
			t.Errorf("%s and %s have bit %d", other, h.Name, h.Bit)
		}
		bits[h.Bit] = h.Name
		if bit, ok := pinned[h.Name]; ok && bit != h.Bit {
			t.Errorf("%s has bit %d: pinned state has it as bit %d", h.Name, h.Bit, bit)
		}
		if h.Bit >= 32 {
			t.Errorf("%s has bit %d: config.hazards has 32 bits", h.Name, h.Bit)
		}
	}
}

func TestRowsAreWhole(t *testing.T) {
	for _, h := range hazard.Table {
		if h.Severity == "" || h.Scope == "" || h.Meaning == "" || h.Cure() == "" {
			t.Errorf("%+v", h)
		}
		if h.Guard != "" && !slices.Contains(hazard.GuardNames(), h.Guard) {
			t.Errorf("%s is cured by the guard %q, which does not exist", h.Name, h.Guard)
		}
	}
	for _, g := range hazard.Guards {
		if g.Name == "" || g.Meaning == "" {
			t.Errorf("%+v", g)
		}
	}
}

// TestProgramsAskForTheRightBits compares enum asked_hazard of bpf/abi_config.h with the table.
func TestProgramsAskForTheRightBits(t *testing.T) {
	header, err := os.ReadFile(filepath.Join("..", "..", "bpf", "abi_config.h"))
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`HAZARD_(\w+) = 1 << (\d+)`).FindAllStringSubmatch(string(header), -1)
	if len(asked) == 0 {
		t.Fatal("bpf/abi_config.h asks for no hazard")
	}
	for _, m := range asked {
		name := strings.ReplaceAll(strings.ToLower(m[1]), "_", "-")
		if h, ok := hazard.Named(name); !ok || strconv.Itoa(int(h.Bit)) != m[2] {
			t.Errorf("HAZARD_%s of bpf/abi_config.h is bit %s, in the table %s is %+v", m[1], m[2], name, h)
		}
	}
}
