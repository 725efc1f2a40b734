// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// neighbourView is a sock_ops program of another project that runs for the sockets of containers.
type neighbourView struct {
	ID      uint32 `json:"id" doc:"id of the program, as bpftool shows it"`
	Name    string `json:"name" doc:"name of the program; empty: this process may not read it"`
	Cgroup  string `json:"cgroup" doc:"cgroup that the program is attached to; empty: it is not visible from here"`
	Links   int    `json:"links" doc:"attached cgroups for whose sockets the program runs"`
	After   bool   `json:"after" doc:"the program runs after the programs of sockmap"`
	Last    bool   `json:"last" doc:"no program of sockmap runs after it, so it can clear our callback flags"`
	Sockmap string `json:"sockmap" doc:"sockmap or sockhash that the program uses; empty when there is none"`
}

// readNeighbours is nil if this process lacks the privilege.
func readNeighbours(n *endpoint.Node) ([]neighbourView, error) {
	all, err := n.Neighbours()
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	views := []neighbourView{}
	for _, n := range all {
		views = append(views, neighbourView{n.ID, n.Name, n.CgroupPath, n.Links, n.After, n.Last, n.Sockmap})
	}
	return views, nil
}

func (v neighbourView) String() string {
	name := v.Name
	if name == "" {
		name = "unknown program"
	}
	where := v.Cgroup
	if where == "" {
		where = "a cgroup out of sight"
	}
	return fmt.Sprintf("%s (id %d) at %s", name, v.ID, where)
}

// effect is the consequence for sockmap or the other; empty: none.
func (v neighbourView) effect(shares bool) string {
	switch {
	case v.Sockmap != "" && shares:
		return fmt.Sprintf("owns sockmap %s: a socket that one has taken is refused to the other with "+
			"EBUSY (coexist is share)", v.Sockmap)
	case v.Sockmap != "" && v.Links > 0:
		return fmt.Sprintf("owns sockmap %s and came after containers that are accelerated: "+
			"its inserts fail with EBUSY; new containers are left to it (coexist is yield)", v.Sockmap)
	case v.Sockmap != "":
		return fmt.Sprintf("owns sockmap %s: containers below are left to it (coexist is yield)", v.Sockmap)
	case v.Last:
		return "runs after sockmap and can take its callbacks away; to come behind it: sockmapctl gc"
	case v.After:
		return "runs after sockmap, which asks for its callbacks again behind it"
	}
	return ""
}

func (s *screen) neighbours(all []neighbourView, shares bool) {
	label := "neighbours"
	for _, v := range all {
		if effect := v.effect(shares); effect != "" {
			s.Line(label, "%s %s", v, effect)
			label = ""
		}
	}
}

const (
	coexistYield = "yield"
	coexistShare = "share"
)

func coexistOf(cfg datapath.Config) string {
	if cfg.Shares {
		return coexistShare
	}
	return coexistYield
}

// loadedCoexist is the value in force, or the default if nothing is loaded.
func loadedCoexist(dir string) string {
	d, err := datapath.Open(dir)
	if err != nil {
		return coexistYield
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		return coexistYield
	}
	return coexistOf(cfg)
}

// severeNeighbours prints lines of doctor: how sockmap and other programs affect each other.
func (s *screen) severeNeighbours(all []neighbourView, shares bool) {
	for _, v := range all {
		if v.Sockmap == "" {
			continue
		}
		state := "AVOIDED"
		if shares || v.Links > 0 {
			state = "PRESENT"
		}
		s.Line("neighbour", "%s (severe for the other): %s", state, v)
		s.Line("  meaning", "it %s", v.effect(shares))
		s.Line("  cure", `"coexist": "yield" leaves its containers to it, "share" accelerates them, too`)
	}
}
