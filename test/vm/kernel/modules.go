// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// tree has the facts about a kernel's modules, from depmod and from the kernel's build.
type tree struct {
	path    map[string]string   // name -> path below lib/modules/RELEASE
	needs   map[string][]string // name -> paths that must be loaded before, in that order reversed
	builtin map[string]bool
	before  map[string][]string // name -> names or aliases of modules without which it may not start
	alias   map[string]string   // another name -> name, without patterns
}

// moduleName is the name of the module in a file: the kernel uses "_" where the file name may have "-".
func moduleName(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

// parseTree reads modules.dep ("PATH: PATH..." per line) and modules.builtin (a PATH per line).
func parseTree(dep, builtin io.Reader) (tree, error) {
	t := tree{path: map[string]string{}, needs: map[string][]string{}, builtin: map[string]bool{}}
	s := bufio.NewScanner(dep)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		file, needs, ok := strings.Cut(s.Text(), ":")
		if !ok {
			return t, fmt.Errorf("parse modules.dep: no colon in %q", s.Text())
		}
		name := moduleName(file)
		t.path[name], t.needs[name] = file, strings.Fields(needs)
	}
	b := bufio.NewScanner(builtin)
	for b.Scan() {
		t.builtin[moduleName(b.Text())] = true
	}
	if err := s.Err(); err != nil {
		return t, fmt.Errorf("read modules.dep: %w", err)
	}
	return t, b.Err()
}

// order returns the files of the named modules and of all that they need, each once and after its needs.
func (t tree) order(names []string) ([]string, error) {
	var files []string
	done := map[string]bool{}
	var visit func(file string)
	visit = func(file string) {
		if done[file] {
			return
		}
		done[file] = true
		for _, name := range t.before[moduleName(file)] {
			if other, ok := t.alias[name]; ok {
				name = other
			}
			if soft, ok := t.path[moduleName(name)]; ok {
				visit(soft)
			}
		}
		// modules.dep lists all modules that a module needs, also indirectly, but its order does not hold for
		// merged lists.
		for _, need := range t.needs[moduleName(file)] {
			visit(need)
		}
		files = append(files, file)
	}
	for _, name := range names {
		name = moduleName(name)
		switch file, ok := t.path[name]; {
		case ok:
			visit(file)
		case !t.builtin[name]:
			return nil, fmt.Errorf("find module %s: this kernel does not have it", name)
		}
	}
	return files, nil
}

// PackModules puts the named modules and those that they need below dir, uncompressed, and returns their
// paths relative to dir in the order in which they can be loaded.
func (k Kernel) PackModules(names []string, dir string) ([]string, error) {
	t, err := k.tree()
	if err != nil {
		return nil, err
	}
	files, err := t.order(names)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k.Release, err)
	}
	packed := make([]string, 0, len(files))
	for _, file := range files {
		name := moduleName(file) + ".ko"
		if err := unpack(filepath.Join(k.modules(), file), filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		packed = append(packed, name)
	}
	return packed, nil
}

func (k Kernel) modules() string {
	return filepath.Join(k.Dir, "lib", "modules", k.Release)
}

func (k Kernel) tree() (tree, error) {
	dep, err := os.ReadFile(filepath.Join(k.modules(), "modules.dep"))
	if err != nil {
		return tree{}, fmt.Errorf("read module dependencies: %w", err)
	}
	builtin, err := os.ReadFile(filepath.Join(k.modules(), "modules.builtin"))
	if err != nil {
		return tree{}, fmt.Errorf("read built-in modules: %w", err)
	}
	t, err := parseTree(bytes.NewReader(dep), bytes.NewReader(builtin))
	if err != nil {
		return t, err
	}
	// A kernel requests these from user space, but the guest has no program that serves such requests.
	softdep, err := os.ReadFile(filepath.Join(k.modules(), "modules.softdep"))
	if err != nil {
		return tree{}, fmt.Errorf("read soft dependencies: %w", err)
	}
	alias, err := os.ReadFile(filepath.Join(k.modules(), "modules.alias"))
	if err != nil {
		return tree{}, fmt.Errorf("read names of modules: %w", err)
	}
	t.before, t.alias = parseSoftdep(string(softdep)), parseAliases(string(alias))
	return t, nil
}

// parseSoftdep reads "softdep NAME pre: NAME... post: NAME..." and keeps the names after pre.
func parseSoftdep(text string) map[string][]string {
	before := map[string][]string{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "softdep" {
			continue
		}
		pre := false
		for _, word := range fields[2:] {
			if strings.HasSuffix(word, ":") {
				pre = word == "pre:"
			} else if name := moduleName(fields[1]); pre {
				before[name] = append(before[name], word)
			}
		}
	}
	return before
}

// parseAliases reads "alias OTHER NAME". It ignores patterns, and uses the first line of several for the same
// OTHER.
func parseAliases(text string) map[string]string {
	alias := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "alias" || strings.ContainsAny(fields[1], "*?[") {
			continue
		}
		if _, ok := alias[fields[1]]; !ok {
			alias[fields[1]] = fields[2]
		}
	}
	return alias
}

// unpack copies a module and decompresses it, because older kernels cannot.
func unpack(from, to string) error {
	var tool string
	switch filepath.Ext(from) {
	case ".xz":
		tool = "xz"
	case ".zst":
		tool = "zstd"
	default:
		data, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("unpack module: %w", err)
		}
		return os.WriteFile(to, data, 0o644)
	}
	if err := Need(tool); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("unpack module: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(tool, "-dcq", from)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("unpack module %s: %w", from, err)
	}
	return nil
}
