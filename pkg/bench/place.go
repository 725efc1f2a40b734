// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
)

// places are cgroups for the sides. A cgroup is a directory that outlives its processes, so another process
// removes them when this one closes its end of a pipe, however it ends.
type places struct {
	dirs    []*os.File
	janitor *exec.Cmd
	open    io.Closer
}

func makePlaces(n int) (*places, error) {
	mount, err := cgroup.FindMount()
	if err != nil {
		return nil, err
	}
	parent := filepath.Join(mount.Path, fmt.Sprintf("sockmap-bench-%d", os.Getpid()))
	var paths []string
	for i := range n {
		paths = append(paths, fmt.Sprintf("%s-%d", parent, i))
	}
	p := &places{}
	// The janitor starts before there is anything to remove.
	p.janitor = janitor(paths)
	p.janitor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.open, err = p.janitor.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.janitor.Start(); err != nil {
		return nil, fmt.Errorf("start who removes the cgroups: %w", err)
	}
	for _, path := range paths {
		err := os.Mkdir(path, 0o755)
		var dir *os.File
		if err == nil {
			dir, err = os.Open(path)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make cgroup: %w", err), p.remove())
		}
		p.dirs = append(p.dirs, dir)
	}
	return p, nil
}

func (p *places) remove() error {
	for _, dir := range p.dirs {
		dir.Close()
	}
	p.open.Close()
	if err := p.janitor.Wait(); err != nil {
		return fmt.Errorf("remove cgroups: %w", err)
	}
	return nil
}

// sweep waits for the end of the process that created paths, and removes them. The kernel releases cgroups of
// killed processes a moment later.
func sweep(paths []string) error {
	_, _ = io.Copy(io.Discard, os.Stdin)
	var errs []error
	for _, path := range paths {
		var err error
		for range 2000 {
			if err = os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
				err = nil
				break
			}
			time.Sleep(time.Millisecond)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func inode(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
