// SPDX-License-Identifier: Apache-2.0

package instructions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// programs of the manifest. Each leaves a file of this name twice: first on a node without sockmap.
var programs = []string{"micro", "programs"}

const (
	bareSuffix  = "-bare"
	resultsFile = "results.json"
)

// Beside is plain TCP between pods without sockmap on a node where other pods have it: guards run in each
// call on the node.
const beside result.Variant = "beside"

// keep copies the results of each kernel below from, in which both programs ran, into one file. It keeps the
// file of a kernel that has not run.
func keep(from, into string) error {
	kernels, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("read the results of the guests: %w", err)
	}
	found := 0
	var failed error
	for _, kernel := range kernels {
		merged, err := merge(filepath.Join(from, kernel.Name()))
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("kernel %s: %w", kernel.Name(), err))
			continue
		}
		if err := merged.Write(filepath.Join(into, kernel.Name()+".json")); err != nil {
			return fmt.Errorf("keep results: %w", err)
		}
		found++
	}
	if found == 0 {
		failed = errors.Join(failed,
			fmt.Errorf("no results below %s: run the guests first (make bench-instructions)", from))
	}
	return failed
}

// merge makes cells from the results of a node without sockmap and of one with it.
func merge(dir string) (all result.File, err error) {
	for i, program := range programs {
		bare, err := result.Read(filepath.Join(dir, program+bareSuffix, resultsFile))
		if err != nil {
			return all, fmt.Errorf("results of %s without sockmap: %w", program, err)
		}
		f, err := result.Read(filepath.Join(dir, program, resultsFile))
		if err != nil {
			return all, fmt.Errorf("results of %s: %w", program, err)
		}
		if i == 0 {
			all = f
			all.Suite, all.Cells, all.Took = "instructions", nil, 0
		}
		if !slices.Equal(f.Machine.Guards, all.Machine.Guards) || f.Machine.Kernel != all.Machine.Kernel ||
			bare.Machine.Kernel != all.Machine.Kernel {
			return all, fmt.Errorf("%s ran on %s with %v, %s on %s and %s with %v: results of one run are needed",
				programs[0], all.Machine.Kernel, all.Machine.Guards, program, bare.Machine.Kernel, f.Machine.Kernel,
				f.Machine.Guards)
		}
		for _, c := range f.Cells {
			all.Cells = append(all.Cells, against(c, bare.Cells))
		}
		all.Took += f.Took + bare.Took
	}
	return all, nil
}

// against gives a cell the base of a node without sockmap. Cells that this node lacks are shown as not
// measured.
func against(c result.Cell, bare []result.Cell) result.Cell {
	samples := map[result.Variant][]float64{result.Sockmap: c.Samples[result.Sockmap],
		beside: c.Samples[result.Plain]}
	i := slices.IndexFunc(bare, func(b result.Cell) bool {
		return b.Group == c.Group && b.Name == c.Name && b.Measure == c.Measure
	})
	if i >= 0 {
		samples[result.Plain] = bare[i].Samples[result.Plain]
		if twin := bare[i].Samples[result.Twin]; len(twin) > 0 {
			samples[result.Twin] = twin
		}
	}
	c.Samples = samples
	return c
}

// load reads the kept results, in the order of the kernels' versions.
func load(kept string) (files []kernelFile, err error) {
	paths, err := filepath.Glob(filepath.Join(kept, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("read %s: %w: make bench-instructions writes them", kept, fs.ErrNotExist)
	}
	for _, path := range paths {
		f, err := result.Read(path)
		if err != nil {
			return nil, err
		}
		files = append(files, kernelFile{strings.TrimSuffix(filepath.Base(path), ".json"), f})
	}
	slices.SortFunc(files, func(a, b kernelFile) int { return byVersion(a.name, b.name) })
	return files, nil
}

// byVersion sorts 6.1 before 6.12, and 6.12 before 7.
func byVersion(a, b string) int {
	var x, y [2]int
	_, _ = fmt.Sscanf(a, "%d.%d", &x[0], &x[1]) // missing parts are 0
	_, _ = fmt.Sscanf(b, "%d.%d", &y[0], &y[1])
	return slices.Compare(x[:], y[:])
}
