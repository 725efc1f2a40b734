// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// allKernels means every line of kernels.txt, as a value of -kernel.
const allKernels = "all"

// choose finds kernels by their names, separated by commas. Without a name it returns the kernels that run
// often, and this machine's own.
func choose(all []kernel.Wanted, names string) (chosen []kernel.Wanted, host bool, err error) {
	if names == "" {
		return slices.DeleteFunc(slices.Clone(all), func(w kernel.Wanted) bool { return !w.Often }), true, nil
	}
	if names == allKernels {
		return all, false, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		if name == hostName {
			host = true
			continue
		}
		i := slices.IndexFunc(all, func(w kernel.Wanted) bool { return w.Name == name })
		if i < 0 {
			return nil, false, fmt.Errorf("find kernel %q: not in kernels.txt", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, host, nil
}

// seldomPatience multiplies the time limits of programs on kernels that run seldom: those are the slow ones.
const seldomPatience = 3

// programsOf returns the specs that run on a kernel. A spec that packs executables of this machine runs only
// on kernels for this machine's architecture.
func programsOf(w kernel.Wanted, specs []spec) (chosen []spec) {
	for _, s := range specs {
		wanted := slices.Contains(w.Only, s.Name) || w.Only == nil && s.PartOf == ""
		if wanted && s.runsOn(w.Arch) {
			if !w.Often {
				s.Timeout *= seldomPatience
			}
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// wholes makes kernels that run a part of a program run all of it.
func wholes(kernels []kernel.Wanted, specs []spec) {
	for i := range kernels {
		only := slices.Clone(kernels[i].Only)
		for j, name := range only {
			if at := slices.IndexFunc(specs, func(s spec) bool { return s.Name == name && s.PartOf != "" }); at >= 0 {
				only[j] = specs[at].PartOf
			}
		}
		kernels[i].Only = only
	}
}

// without removes programs from kernels. left is KERNEL/PROGRAM, separated by commas.
func without(kernels []kernel.Wanted, left string) error {
	for pair := range strings.SplitSeq(left, ",") {
		name, program, _ := strings.Cut(pair, "/")
		i := slices.IndexFunc(kernels, func(w kernel.Wanted) bool {
			return w.Name == name && slices.Contains(w.Only, program)
		})
		if i < 0 {
			return fmt.Errorf("-leave-out: %q is not KERNEL/PROGRAM of a kernel that runs", pair)
		}
		kernels[i].Only = slices.DeleteFunc(slices.Clone(kernels[i].Only),
			func(s string) bool { return s == program })
	}
	return nil
}

// runsOn reports whether a spec can be packed for an architecture.
func (s spec) runsOn(arch string) bool {
	return arch == runtime.GOARCH || s.Path == "" && len(s.Tools) == 0
}

// checkPrograms finds kernels that would run nothing, or that name an unknown program.
func checkPrograms(kernels []kernel.Wanted, specs []spec) error {
	for _, w := range kernels {
		for _, name := range w.Only {
			if !slices.ContainsFunc(specs, func(s spec) bool { return s.Name == name }) {
				return fmt.Errorf("kernel %s is to run %s, which the manifest does not have", w.Name, name)
			}
		}
		if len(programsOf(w, specs)) == 0 {
			return fmt.Errorf("kernel %s would run nothing: executables of this machine are for %s, and it is for %s",
				w.Name, runtime.GOARCH, w.Arch)
		}
	}
	return nil
}
