// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// iterators are the programs that find live sockets, best first, with what each iterates over.
var iterators = [...]hook{
	{bpf.ListProgListFlows, "bpf_sk_storage_map"},
	{bpf.ListProgListTcp, "tcp"},
}

// loadIterator pins the first iterator that this kernel accepts. It is no error if it accepts none:
// connections are accelerated anyway, only Flows returns ErrNotListed.
func (o *loaded) loadIterator(dir string) error {
	spec, err := bpf.LoadList()
	if err != nil {
		return fmt.Errorf("read embedded iterators: %w", err)
	}
	maps := map[string]*ebpf.Map{bpf.ListMapStates: o.States, bpf.ListMapFlows: o.Flows}
	from := source{spec: spec, maps: maps, types: o.types}
	var refused error
	for _, it := range iterators {
		prog, err := from.loadOne(it)
		if err != nil {
			refused = errors.Join(refused, fmt.Errorf("load %s: %w", it.program, err))
			continue
		}
		defer prog.Close()
		if err := prog.Pin(filepath.Join(dir, it.program)); err != nil {
			return fmt.Errorf("pin iterator: %w", err)
		}
		return nil
	}
	return pinReason(filepath.Join(dir, iterators[0].program), refused)
}

// Flows calls yield for every live socket, in no order, and stops when yield returns false. A connection that
// comes or goes meanwhile may be missed.
//
// Where the kernel has no iterator over all of the node's sockets, those of each network namespace are read
// in turn: of each running thread, of each with a name, and of each recorded attachment. It returns
// ErrNotListed where it has none at all.
func (d *Datapath) Flows(yield func(Flow) bool) error {
	return d.allSockets(func(f Flow) bool { return f.over() || yield(f) })
}

// allSockets is Flows, including sockets whose connection is over.
func (d *Datapath) allSockets(yield func(Flow) bool) error {
	return d.flows(yield, func(do func() error) error {
		paths, err := d.namespacePaths()
		if err != nil {
			return err
		}
		return netns.Each(paths, do)
	})
}

// FlowsIn is Flows for the sockets of the network namespaces at paths. Where namespaces are read in turn it
// costs little on a node with many. A path that names none is an error.
func (d *Datapath) FlowsIn(paths []string, yield func(Flow) bool) error {
	of := map[uint64]bool{}
	for _, path := range paths {
		id, err := netns.Identify(path)
		if err != nil {
			return err
		}
		of[id.Cookie] = true
	}
	return d.flows(func(f Flow) bool { return !of[f.NetNSCookie] || f.over() || yield(f) },
		func(do func() error) error {
			return netns.EachOf(paths, do)
		})
}

// flows calls each, which runs its argument once in each wanted namespace, only if the iterator needs that.
func (d *Datapath) flows(yield func(Flow) bool, each func(do func() error) error) error {
	prog, err := d.program(bpf.ListProgListFlows)
	if err == nil {
		return d.flowsOfNode(prog, yield)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if prog, err = d.program(bpf.ListProgListTcp); err == nil {
		return flowsByNamespace(prog, yield, each)
	}
	return fmt.Errorf("%w: %s", ErrNotListed, readReason(d.layout.pin(bpf.ListProgListFlows)))
}

func (d *Datapath) flowsOfNode(prog *ebpf.Program, yield func(Flow) bool) error {
	states, err := d.mapOf(bpf.SockmapMapStates, unsafe.Sizeof(bpf.SockmapSockState{}))
	if err != nil {
		return err
	}
	it, err := link.AttachIter(link.IterOptions{Program: prog, Map: states})
	if err != nil {
		return fmt.Errorf("attach flows iterator: %w", err)
	}
	defer it.Close()
	_, err = iterate(it, yield)
	return err
}

func flowsByNamespace(prog *ebpf.Program, yield func(Flow) bool, each func(do func() error) error) error {
	it, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		return fmt.Errorf("attach flows iterator: %w", err)
	}
	defer it.Close()
	more := true
	return each(func() (err error) {
		if more {
			more, err = iterate(it, yield)
		}
		return err
	})
}

// namespacePaths are the network namespaces of attachments: their containers may have no process.
func (d *Datapath) namespacePaths() ([]string, error) {
	attachments, err := d.Attachments()
	if err != nil {
		return nil, err
	}
	paths := make([]string, 0, len(attachments))
	for _, a := range attachments {
		if a.NetNSPath != "" {
			paths = append(paths, a.NetNSPath)
		}
	}
	return paths, nil
}

// iterate runs the iterator once. more is false if yield has returned false.
func iterate(it *link.Iter, yield func(Flow) bool) (more bool, err error) {
	r, err := it.Open()
	if err != nil {
		return false, fmt.Errorf("open flows iterator: %w", err)
	}
	defer r.Close()
	more = true
	err = readFlows(bufio.NewReaderSize(r, 64<<10), func(f Flow) bool {
		more = yield(f)
		return more
	})
	return more, err
}
