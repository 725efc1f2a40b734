// SPDX-License-Identifier: Apache-2.0

package instructions

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func cellOf(name string, plain, sockmap, twin float64) result.Cell {
	five := func(v float64) []float64 { return []float64{v, v, v, v, v} }
	return result.Cell{
		Group: "rr", Name: name, Measure: "instructions", Unit: "instructions/request", Better: result.Lower,
		Samples: map[result.Variant][]float64{result.Plain: five(plain), result.Sockmap: five(sockmap),
			result.Twin: five(twin)},
		Share: map[result.Variant]float64{result.Sockmap: 1},
	}
}

// leave writes the results of a program on a node with sockmap, whose plain TCP needs a tenth more, and on
// one without.
func leave(t *testing.T, dir, program, kernel string, cells ...result.Cell) {
	t.Helper()
	write := func(name string, guards []string, of func(result.Cell) map[result.Variant][]float64) {
		f := result.File{Machine: result.Machine{Kernel: kernel, Guards: guards}}
		for _, c := range cells {
			c.Samples = of(c)
			f.Cells = append(f.Cells, c)
		}
		if err := f.Write(filepath.Join(dir, name, resultsFile)); err != nil {
			t.Fatal(err)
		}
	}
	write(program, []string{"splice"}, func(c result.Cell) map[result.Variant][]float64 {
		dearer := []float64{1.1 * c.Samples[result.Plain][0]}
		return map[result.Variant][]float64{result.Plain: dearer, result.Sockmap: c.Samples[result.Sockmap]}
	})
	write(program+bareSuffix, nil, func(c result.Cell) map[result.Variant][]float64 {
		return map[result.Variant][]float64{result.Plain: c.Samples[result.Plain],
			result.Twin: c.Samples[result.Twin]}
	})
}

func TestTableNamesCellsThatLose(t *testing.T) {
	from, kept := t.TempDir(), t.TempDir()
	for _, kernel := range []string{"6.12", "6.1"} {
		leave(t, filepath.Join(from, kernel), "micro", kernel+".9", cellOf("64 B", 30000, 20000, 30300),
			cellOf("16 KiB", 30000, 40000, 30000))
		program := cellOf("redis GET", 50000, 50000, 50000)
		program.Group = "program"
		leave(t, filepath.Join(from, kernel), "programs", kernel+".9", program)
	}
	if err := keep(from, kept); err != nil {
		t.Fatal(err)
	}
	files, err := load(kept)
	if err != nil {
		t.Fatal(err)
	}
	text := table(files)
	for _, want := range []string{
		"| 6.1.9<br>guards splice | 6.12.9<br>guards splice |\n",
		"Of 6 cells, sockmap needs fewer instructions than plain TCP in 2, as many in 2, and more in 2. Two plain pairs differ by 1.0 % at most.",
		"- 6.1, request and answer, 16 KiB each (per request): 0.750\n",
		"| request and answer, 64 B each (per request) | 30,000 → 20,000<br>1.500 (1.500 to 1.500)<br>beside: 33,000<br>redirected 100 % |",
		"**0.750 (0.750 to 0.750)**",
		"| redis GET (per request) | 50,000 → 50,000<br>1.000 (",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestIncompleteRunIsNotKept(t *testing.T) {
	from, kept := t.TempDir(), t.TempDir()
	leave(t, filepath.Join(from, "6.1"), "micro", "6.1.9", cellOf("64 B", 3, 2, 3))
	if err := keep(from, kept); err == nil || !strings.Contains(err.Error(), "kernel 6.1") {
		t.Errorf("programs did not run: %v", err)
	}
	leave(t, filepath.Join(from, "6.1"), "programs", "6.1.10", cellOf("64 B", 3, 2, 3))
	if err := keep(from, kept); err == nil || !strings.Contains(err.Error(), "results of one run") {
		t.Errorf("two kernels: %v", err)
	}
	if left, _ := os.ReadDir(kept); len(left) > 0 {
		t.Errorf("it is kept: %v", left)
	}
	if _, err := load(kept); err == nil {
		t.Error("no results are no error")
	}
}

// The guests run the programs of the manifest, and keep looks for their names.
func TestManifestRunsTheExpectedPrograms(t *testing.T) {
	b, err := os.ReadFile("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	var specs []struct {
		Name string
		Args []string
	}
	if err := json.Unmarshal(b, &specs); err != nil {
		t.Fatal(err)
	}
	want := []string{"micro-bare", "programs-bare", "micro", "programs"}
	for i, s := range specs {
		args := strings.Join(s.Args, " ")
		if len(specs) != len(want) || s.Name != want[i] || !strings.Contains(args, "$VM_OUT/"+resultsFile) ||
			strings.Contains(args, "-bare") != strings.HasSuffix(s.Name, bareSuffix) {
			t.Errorf("%+v, want %v, each with %s", specs, want, resultsFile)
		}
	}
	for _, program := range programs {
		if !slices.Contains(want, program) || !slices.Contains(want, program+bareSuffix) {
			t.Errorf("no guest runs %s and %s%s", program, program, bareSuffix)
		}
	}
}
