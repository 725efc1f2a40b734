// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Yields returns a NeighbourError if this cgroup must be left to another program: one that owns a sockhash
// for the sockets, unless coexist is share, or one that was attached so that it would no longer run beside
// ours.
func (d *Datapath) Yields(cgroup *os.File) error {
	v, err := d.view(cgroup)
	if err != nil || len(v.neighbours) == 0 {
		return err
	}
	if v.displaced >= 0 {
		return &NeighbourError{
			v.neighbours[v.displaced], "is attached above with BPF_F_ALLOW_OVERRIDE and would not run any more",
			"attach that one with BPF_F_ALLOW_MULTI; see: bpftool cgroup tree",
		}
	}
	cfg, err := d.config()
	if err != nil || cfg.Coexist == uint32(bpf.SockmapCoexistCOEXIST_SHARE) {
		return err
	}
	for _, n := range v.neighbours {
		if n.Sockmap != "" {
			return &NeighbourError{
				n, fmt.Sprintf("owns sockmap %q, in which a socket cannot be together with ours", n.Sockmap),
				`to accelerate the sockets that are not in it yet, set "coexist": "share"`,
			}
		}
	}
	return nil
}

// Rearm makes sure that a program of ours runs last for the sockets of a cgroup with a link, if a program of
// others runs after the link's. It returns the cgroup that it is attached to; 0: it is not needed. It returns
// a NeighbourError if that is impossible.
func (d *Datapath) Rearm(cgroup *os.File) (at uint64, err error) {
	v, err := d.view(cgroup)
	if err != nil || v.last < 0 {
		return 0, err
	}
	if err := d.noteForeign(true); err != nil {
		return 0, err
	}
	if v.rearmed {
		return v.rearmID, nil
	}
	if at, err = d.rearmAbove(cgroup, v); err != nil {
		return 0, d.cannotRearm(v, err)
	}
	if v, err = d.view(cgroup); err == nil && v.last >= 0 && !v.rearmed {
		err = d.cannotRearm(v, errors.New("it still runs last"))
	}
	return at, err
}

func (d *Datapath) cannotRearm(v view, err error) error {
	if errors.Is(err, ErrForeignState) || v.last < 0 {
		return err
	}
	return &NeighbourError{
		v.neighbours[v.last], "runs after ours, can clear our callbacks, and no program can be attached after it",
		err.Error(),
	}
}

// rearmAbove attaches the program to the topmost cgroup with a program of others, after that program.
func (d *Datapath) rearmAbove(cgroup *os.File, v view) (at uint64, err error) {
	top := v.neighbours[v.last].CgroupID
	if top == 0 {
		return 0, errors.New("the cgroup that it is attached to cannot be seen from here")
	}
	err = eachAncestor(cgroup, func(dir *os.File, id uint64) error {
		if id != top {
			return nil
		}
		at = id
		pin := d.layout.rearm(id)
		// If it is there already, it runs before the other program.
		if err := detachNow(pin); err != nil {
			return err
		}
		return d.attach(dir, bpf.SockmapProgRearm, ebpf.AttachCGroupSockOps, pin)
	})
	return at, err
}

// RearmLinks lists the cgroups that have a rearm program.
func (d *Datapath) RearmLinks() (cgroups []uint64, err error) {
	defer spellError(&err)
	entries, err := os.ReadDir(d.layout.links())
	if err != nil {
		return nil, fmt.Errorf("read link pins: %w", err)
	}
	for _, e := range entries {
		if id, ok := parseRearm(e.Name()); ok {
			cgroups = append(cgroups, id)
		}
	}
	return cgroups, nil
}

// KeepRearmed removes the rearm programs of all cgroups except those that Rearm has returned. If none is
// left, our programs count as alone again.
func (d *Datapath) KeepRearmed(used map[uint64]bool) (err error) {
	defer spellError(&err)
	cgroups, err := d.RearmLinks()
	if err != nil {
		return err
	}
	for _, id := range cgroups {
		if used[id] {
			continue
		}
		if err := os.Remove(d.layout.rearm(id)); err != nil {
			return fmt.Errorf("remove link pin: %w", err)
		}
	}
	return nil
}

// NoteForeign sets whether programs of others run after ours in some cgroup. Then callback flags that both
// may want are not cleared.
func (d *Datapath) NoteForeign(foreign bool) error { return d.noteForeign(foreign) }

func (d *Datapath) noteForeign(foreign bool) error {
	return d.update(func(c *bpf.SockmapConfig) {
		c.Foreign = 0
		if foreign {
			c.Foreign = 1
		}
	})
}

// SetForeign sets whether new connections of an endpoint stay on TCP, because a program of others runs last
// there. It reports whether that has changed. It is no error if the endpoint is not registered.
func (d *Datapath) SetForeign(cookie uint64, foreign bool) (changed bool, err error) {
	var ep bpf.SockmapEndpoint
	m, err := d.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(ep))
	if err != nil {
		return false, err
	}
	if err := m.Lookup(cookie, &ep); errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read endpoint: %w", err)
	}
	was := ep.Foreign
	ep.Foreign = 0
	if foreign {
		ep.Foreign = 1
	}
	if ep.Foreign == was {
		return false, nil
	}
	if err := m.Update(cookie, &ep, ebpf.UpdateExist); err != nil {
		return false, fmt.Errorf("change endpoint: %w", err)
	}
	return true, nil
}

const rearmPrefix = "rearm-"

func (l layout) rearm(cgroupID uint64) string {
	return l.links() + "/" + rearmPrefix + strconv.FormatUint(cgroupID, 10)
}

func parseRearm(name string) (cgroupID uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, rearmPrefix)
	if !ok {
		return 0, false
	}
	cgroupID, err := strconv.ParseUint(digits, 10, 64)
	return cgroupID, err == nil
}
