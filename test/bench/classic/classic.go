// SPDX-License-Identifier: Apache-2.0

// Package classic attaches the design of the well-known sockmap samples to cgroups, for comparison in
// benchmarks. It is no part of the product and not fit for production: the backlog of a slow reader is not
// bounded.
package classic

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Classic is loaded and attached until Close. Nothing is pinned, so it also ends with the process.
type Classic struct {
	objects classicObjects
	links   []link.Link
}

// Attach loads the programs and attaches them to the cgroups at these directories.
func Attach(cgroups ...string) (c *Classic, err error) {
	c = &Classic{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := loadClassicObjects(&c.objects, nil); err != nil {
		return c, fmt.Errorf("load the classic programs: %w", err)
	}
	// The kernel has no links for this attachment before 6.10. The attachment ends with the map.
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: c.objects.Tuples.FD(), Program: c.objects.ClassicVerdict, Attach: ebpf.AttachSkMsgVerdict,
	})
	if err != nil {
		return c, fmt.Errorf("attach the classic verdict to its map: %w", err)
	}
	for _, dir := range cgroups {
		if err := c.attach(dir); err != nil {
			return c, fmt.Errorf("attach the classic sock_ops to cgroup %s: %w", dir, err)
		}
	}
	return c, nil
}

func (c *Classic) attach(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := link.AttachRawLink(link.RawLinkOptions{
		Target: int(f.Fd()), Program: c.objects.ClassicOps, Attach: ebpf.AttachCGroupSockOps,
	})
	if err == nil {
		c.links = append(c.links, l)
	}
	return err
}

// Runs is the number of the verdict's runs and their total time, while the kernel counted them
// (ebpf.EnableStats).
func (c *Classic) Runs() (count uint64, total time.Duration, err error) {
	stats, err := c.objects.ClassicVerdict.Stats()
	if err != nil {
		return 0, 0, fmt.Errorf("read the run time of the classic verdict: %w", err)
	}
	return stats.RunCount, stats.Runtime, nil
}

// Close detaches and unloads it.
func (c *Classic) Close() error {
	var errs []error
	for _, l := range c.links {
		errs = append(errs, l.Close())
	}
	c.links = nil
	return errors.Join(append(errs, c.objects.Close())...)
}
