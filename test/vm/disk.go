// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/test/vm/root"
)

// setUpRoot makes the Debian root if a program of the run wants it, and adds the modules that the guests need
// to mount it.
func (m *matrix) setUpRoot(ctx context.Context) (err error) {
	if len(m.kernels) == 0 || !slices.ContainsFunc(m.specs, func(s spec) bool { return s.Root }) {
		return nil
	}
	m.modules = append(slices.Clone(m.modules), root.Modules...)
	m.disk, err = root.Image(ctx, m.cache.Dir, m.say)
	return err
}

// diskArgs give the emulated machine a disk that several machines may read at the same time.
func diskArgs(image string) []string {
	if image == "" {
		return nil
	}
	return []string{
		"-drive", "if=none,id=root,format=raw,readonly=on,file=" + image,
		"-device", "virtio-blk-pci,drive=root",
	}
}
