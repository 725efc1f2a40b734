// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
	"golang.org/x/sync/errgroup"
)

// matrix is a run of the same programs under several kernels.
type matrix struct {
	repo    string
	commit  string // commit of the repository
	cache   kernel.Cache
	results string
	host    bool // this machine's own kernel, too
	kernels []kernel.Wanted
	modules []string
	specs   []spec
	jobs    int    // guests at a time
	accel   string // instead of the value that suits the installed QEMU
	icount  bool   // the guests' clocks count instructions
	qemu    qemu
	boot    time.Duration
	disk    string // image of a Debian root, when a program wants one
	say     func(format string, args ...any)
}

// run returns the outcomes in the order of the kernels. The error is one that prevented the whole matrix from
// running; failures of a kernel or a test are in the outcomes.
func (m matrix) run(ctx context.Context) ([]*outcome, error) {
	if err := m.setUp(ctx); err != nil {
		return nil, err
	}
	if err := m.setUpRoot(ctx); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "vm-")
	if err != nil {
		return nil, fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(dir)
	images, err := m.makeImages(ctx, dir)
	if err != nil {
		return nil, err
	}
	var host []*outcome
	if m.host {
		o, err := m.runHost(ctx, images[runtime.GOARCH])
		if err != nil {
			return nil, err
		}
		host = append(host, o)
	}
	for _, w := range m.kernels {
		for _, s := range m.specs {
			if !s.runsOn(w.Arch) {
				m.say("%s: %s is left out: it needs executables of this machine", w.Name, s.Name)
			}
		}
	}
	outcomes := make([]*outcome, len(m.kernels))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(m.jobs)
	for _, i := range m.longestFirst() {
		w := m.kernels[i]
		group.Go(func() (err error) {
			if outcomes[i], err = m.runKernel(ctx, images[w.Arch], w); ctx.Err() != nil && err != nil {
				// The run was cancelled before this guest began. The other guests still report.
				outcomes[i] = &outcome{Kernel: w.Name, Problems: []string{fmt.Sprintf("it did not run: %v",
					context.Cause(ctx))}}
				return nil
			}
			return err
		})
	}
	err = group.Wait()
	return append(outcomes, host...), err
}

// longestFirst returns the indices of the kernels in the order in which guests begin: a long one that begins
// last would run alone.
func (m matrix) longestFirst() []int {
	order := make([]int, len(m.kernels))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(m.guestLimit(m.kernels[b]), m.guestLimit(m.kernels[a]))
	})
	return order
}

// makeImages makes one image, with the programs that run there, for each architecture that runs any.
func (m matrix) makeImages(ctx context.Context, dir string) (images map[string]image, err error) {
	images = map[string]image{}
	for _, a := range archs {
		specs := m.specsOf(a.name)
		if len(specs) == 0 {
			continue
		}
		sub := filepath.Join(dir, a.name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			return nil, fmt.Errorf("make work directory: %w", err)
		}
		if images[a.name], err = makeImage(ctx, m.repo, sub, a.name, specs); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// specsOf returns the specs that run on any kernel of an architecture, in their order. This machine's own
// kernel runs all.
func (m matrix) specsOf(arch string) (specs []spec) {
	here := m.host && arch == runtime.GOARCH
	for _, s := range m.specs {
		wanted := slices.ContainsFunc(m.kernels, func(w kernel.Wanted) bool {
			return w.Arch == arch && len(programsOf(w, []spec{s})) > 0
		})
		if here || wanted {
			specs = append(specs, s)
		}
	}
	return specs
}

// setUp checks the requirements, and chooses how to use QEMU.
func (m *matrix) setUp(ctx context.Context) (err error) {
	if len(m.kernels) == 0 {
		return kernel.Need("cpio")
	}
	tools := []string{"cpio"}
	for _, w := range m.kernels {
		a, err := archOf(w.Arch)
		if err != nil {
			return err
		}
		tools = append(tools, a.emulator)
	}
	slices.Sort(tools)
	tools = slices.Compact(tools)
	if err := m.cache.Need(m.kernels, tools...); err != nil {
		return err
	}
	// All emulators come from the same version of QEMU.
	if m.qemu, err = findQEMU(ctx, tools[len(tools)-1]); m.accel != "" {
		m.qemu.accel = m.accel
	}
	if m.icount {
		m.qemu = countingUse
	}
	return err
}

func (m matrix) runKernel(ctx context.Context, im image, w kernel.Wanted) (*outcome, error) {
	k, err := m.cache.Get(ctx, w)
	if err != nil {
		return nil, err
	}
	initrd, err := im.initrd(ctx, k, m.modules)
	if err != nil {
		return nil, err
	}
	// Both the archive and QEMU's copy of it are large. The archive is not needed later.
	defer os.Remove(initrd)
	a, err := archOf(w.Arch)
	if err != nil {
		return nil, err
	}
	vm := machine{
		arch: a, kernel: k, initrd: initrd, disk: m.disk, results: filepath.Join(m.results, w.Name),
		qemu: m.qemu, icount: m.icount, boot: m.boot, limit: m.guestLimit(w),
	}
	o, err := m.bootTwice(ctx, vm)
	if err != nil {
		return nil, err
	}
	return o, m.finish(o, &w)
}

// finish completes the outcome with the facts, and saves it.
func (m matrix) finish(o *outcome, wanted *kernel.Wanted) (err error) {
	for _, r := range o.Programs {
		if isTest(m.specs, r.Name) {
			if r.Tests, err = parseTests(r.Name, r.output.String()); err != nil {
				return err
			}
		}
	}
	o.examine(wanted)
	o.Date, o.Commit, o.Passed = time.Now().UTC().Format(time.DateOnly), m.commit, o.OK()
	return o.save()
}

// bootTwice boots a guest a second time if it did not boot. It never repeats one whose init ran: a failed
// test has failed.
func (m matrix) bootTwice(ctx context.Context, vm machine) (*outcome, error) {
	progress := func(format string, args ...any) { m.say(vm.kernel.Name+": "+format, args...) }
	o, err := vm.run(ctx, progress)
	if !errors.Is(err, errNotBooted) || ctx.Err() != nil {
		return o, err
	}
	progress("%v\n%s: trying again", err, vm.kernel.Name)
	first := err
	o, err = vm.run(ctx, progress)
	if errors.Is(err, errNotBooted) {
		o.problem("%v", err)
		return o, nil
	}
	if o != nil {
		o.Retried = first.Error()
	}
	return o, err
}

// guestLimit is more than all programs and the boot can take together.
func (m matrix) guestLimit(w kernel.Wanted) time.Duration {
	sum := m.boot + time.Minute
	for _, s := range programsOf(w, m.specs) {
		sum += time.Duration(s.Timeout) + 30*time.Second
	}
	return sum
}

func isTest(specs []spec, name string) bool {
	for _, s := range specs {
		if s.Name == name {
			return s.Test != ""
		}
	}
	return false
}
