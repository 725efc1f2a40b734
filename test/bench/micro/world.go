// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/bench/classic"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// route is a way from a client to a server.
type route struct {
	client, server *wire.Agent
	listen         string
	pair           *pods.Pair // pair whose bytes the data path counts; nil: none are redirected
	kept           bool
	off            bool          // switched off by the kill switch during its measurement
	spin           time.Duration // delay of the server: see check.go
}

// world has all variants that are compared.
type world struct {
	node    *lab.Node
	sockmap *pods.Pair
	old     *classic.Classic
	verdict *ebpf.Program      // the verdict of sockmap
	data    *datapath.Datapath // data path of the node
	routes  map[result.Variant]route
	outward map[result.Variant]route // routes to a host off the node
	agents  []*wire.Agent

	congestion string
	counting   bool          // the clock counts instructions
	bare       bool          // no pod has sockmap: the route of this name is plain TCP, too
	spin       time.Duration // delay of sockmap's server
}

func newWorld(ctx context.Context, o options, log io.Writer) (w *world, err error) {
	w = &world{congestion: o.congestion, counting: o.instructions, bare: o.bare, spin: o.spin}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.node, err = pods.NodeOf(ctx, o.bin, log); err != nil {
		return w, err
	}
	plain, err := pods.New(ctx, w.node, "plain", 0, false)
	if err != nil {
		return w, err
	}
	if w.sockmap, err = pods.New(ctx, w.node, "sockmap", 1, !w.bare); err != nil {
		return w, err
	}
	old, err := pods.New(ctx, w.node, "classic", 2, false)
	if err != nil {
		return w, err
	}
	twin, err := pods.New(ctx, w.node, "twin", 3, false)
	if err != nil {
		return w, err
	}
	if w.bare {
		return w, w.connect(ctx, plain, old, twin)
	}
	if w.old, err = classic.Attach(old.Client.ContainerCgroup(), old.Server.ContainerCgroup()); err != nil {
		return w, err
	}
	pin := filepath.Join(w.node.BPFFS(), fmt.Sprintf("v%d", datapath.ABI), "verdict")
	if w.verdict, err = ebpf.LoadPinnedProgram(pin, nil); err != nil {
		return w, fmt.Errorf("open %s: %w", pin, err)
	}
	if w.data, err = datapath.Open(w.node.BPFFS()); err != nil {
		return w, err
	}
	return w, w.connect(ctx, plain, old, twin)
}

// connect starts the ends. Ends that share a container, or serve several variants, are never used at the same
// time.
func (w *world) connect(ctx context.Context, plain, old, twin *pods.Pair) (err error) {
	start := func(name string, at wire.Place) *wire.Agent {
		if err != nil {
			return nil
		}
		var a *wire.Agent
		if a, err = wire.Start(ctx, name, at); err == nil {
			w.agents = append(w.agents, a)
		}
		return a
	}
	host, err := w.node.External(ctx, "away")
	if err != nil {
		return err
	}
	inside := start("second end in the plain client's container", plain.Client)
	away := start("host off the node", host)
	through := func(name string, p *pods.Pair) route {
		return route{
			client: start(name+" client", p.Client), server: start(name+" server", p.Server),
			listen: p.Server.IP4().String() + ":0",
		}
	}
	viaPlain, viaSockmap, viaClassic := through("plain", plain), through("sockmap", w.sockmap),
		through("classic", old)
	viaTwin, off := through("twin", twin), viaSockmap
	off.off = true
	if !w.bare {
		viaSockmap.pair = w.sockmap
	}
	kept := viaSockmap
	kept.kept = true
	slowed := viaTwin
	slowed.spin = slowedBy
	viaSockmap.spin = w.spin
	w.routes = map[result.Variant]route{
		result.Plain:    viaPlain,
		result.Loopback: {client: viaPlain.client, server: inside, listen: "127.0.0.1:0"},
		result.Unix:     {client: viaPlain.client, server: inside, listen: "@sockmap-bench"},
		result.Sockmap:  viaSockmap,
		result.Classic:  viaClassic,
		result.Kept:     kept,
		result.Off:      off,
		result.Twin:     viaTwin,
		slowedDown:      slowed,
	}
	outside := host.IPs()[0].String() + ":0"
	w.outward = map[result.Variant]route{
		result.Plain:   {client: viaPlain.client, server: away, listen: outside},
		result.Sockmap: {client: viaSockmap.client, server: away, listen: outside},
		result.Off:     {client: viaSockmap.client, server: away, listen: outside, off: true},
		result.Twin:    {client: viaTwin.client, server: away, listen: outside},
	}
	return err
}

func (w *world) close() error {
	for _, a := range w.agents {
		a.Stop()
	}
	var errs []error
	if w.data != nil {
		errs = append(errs, w.data.Close())
	}
	if w.verdict != nil {
		errs = append(errs, w.verdict.Close())
	}
	if w.old != nil {
		errs = append(errs, w.old.Close())
	}
	if w.node != nil {
		errs = append(errs, w.node.Close())
	}
	return errors.Join(errs...)
}
