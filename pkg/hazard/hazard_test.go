// SPDX-License-Identifier: Apache-2.0

package hazard_test

import (
	"flag"
	"fmt"
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

func TestSetsConvertToAndFromNames(t *testing.T) {
	if got := hazard.SetOf("splice", "fin", "nonsense").Names(); !cmp.Equal(got, []string{"splice", "fin"}) {
		t.Errorf("%v", got)
	}
	for _, severe := range []string{"splice", "eagain"} {
		if got := hazard.SetOf(severe).Severe().String(); got != severe {
			t.Errorf("%s is not severe: %v", severe, got)
		}
	}
	if got := hazard.SetOf("splice", "mptcp", "fin", "backpressure").OfNode().Names(); !cmp.Equal(got,
		[]string{"mptcp", "backpressure"}) {
		t.Errorf("of the node are %v", got)
	}
}

// pinned has the bits that pinned state has, a line for each hazard. -update adds lines, and never changes
// one.
const pinned = "testdata/bits.txt"

var update = flag.Bool("update", false, "add the bits of new hazards to "+pinned)

func TestBitsNeverChange(t *testing.T) {
	text, err := os.ReadFile(pinned)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{} // by bit
	for line := range strings.Lines(string(text)) {
		name, bit, _ := strings.Cut(strings.TrimSpace(line), " ")
		names[bit] = name
		if h, ok := hazard.Named(name); ok && strconv.Itoa(int(h.Bit)) != bit {
			t.Errorf("%s has bit %d: pinned state has it as bit %s", name, h.Bit, bit)
		}
	}
	for _, h := range hazard.Table {
		bit := strconv.Itoa(int(h.Bit))
		if other, taken := names[bit]; taken && other != h.Name {
			t.Errorf("%s and %s have bit %s", other, h.Name, bit)
		}
		if h.Bit >= 32 {
			t.Errorf("%s has bit %d: config.hazards has 32 bits", h.Name, h.Bit)
		}
		if names[bit] == "" {
			names[bit], text = h.Name, fmt.Appendln(text, h.Name, bit)
			if !*update {
				t.Errorf("%s is not in %s: run go test ./pkg/hazard -update", h.Name, pinned)
			}
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(pinned, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRowsAreComplete(t *testing.T) {
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
