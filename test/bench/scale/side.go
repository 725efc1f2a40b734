// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/bench/crowd"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// side has the two containers of one variant: a crowd between them, and one server whose latency is measured.
type side struct {
	variant result.Variant
	node    *lab.Node
	pair    *pods.Pair
	crowd   *crowd.Crowd
	server  *lab.Server
	cpu     int
}

func openSide(ctx context.Context, node *lab.Node, v result.Variant, index byte, flows, cpu int,
	keys map[string]any) (sd *side, err error) {
	sd = &side{variant: v, node: node, cpu: cpu}
	defer func() {
		if err != nil {
			err = errors.Join(err, sd.close())
		}
	}()
	if sd.pair, err = pods.New(ctx, node, string(v), index, v == result.Sockmap, keys); err != nil {
		return sd, err
	}
	if sd.server, err = sd.pair.Server.Serve(ctx, sd.pair.Server.IP4().String()+":0", cpu); err != nil {
		return sd, err
	}
	sd.crowd, err = crowd.Start(ctx, sd.pair.Client, sd.pair.Server, flows, cpu)
	return sd, err
}

func (sd *side) close() error {
	var errs []error
	if sd.crowd != nil {
		errs = append(errs, sd.crowd.Close())
	}
	if sd.server != nil {
		errs = append(errs, sd.server.Close())
	}
	return errors.Join(errs...)
}

// ask measures requests and answers of 64 bytes, on its own connection.
func (sd *side) ask(ctx context.Context, n int) (l latencies, err error) {
	r, err := sd.pair.Client.Measure(ctx, "rr", sd.server.Addr(), sd.cpu, "-size", "64", "-warmup", "2000",
		"-count", strconv.Itoa(n))
	if err != nil {
		return l, err
	}
	return latencies{float64(r.Latency.P50), float64(r.Latency.P99)}, nil
}

// joined is the share of the idle flows' ends that the data path has paired.
func (sd *side) joined(flows int) (float64, error) {
	d, err := datapath.Open(sd.node.BPFFS())
	if err != nil {
		return 0, err
	}
	defer d.Close()
	n := 0
	ours := map[uint64]bool{sd.pair.Client.NetNSCookie(): true, sd.pair.Server.NetNSCookie(): true}
	err = d.Flows(func(f datapath.Flow) bool {
		if f.Joined && ours[f.NetNSCookie] {
			n++
		}
		return true
	})
	return float64(n) / float64(2*flows), err
}

// maps is the memory of the pinned maps according to the kernel, in bytes.
func (sd *side) maps() (sum float64, err error) {
	pins, err := os.ReadDir(sd.state())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, pin := range pins {
		if pin.IsDir() {
			continue
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(sd.state(), pin.Name()), nil)
		if err != nil {
			continue // a program
		}
		info, err := m.Info()
		if err == nil {
			if locked, ok := info.Memlock(); ok {
				sum += float64(locked)
			}
		}
		if err := errors.Join(err, m.Close()); err != nil {
			return 0, fmt.Errorf("read the information on map %s: %w", pin.Name(), err)
		}
	}
	return sum, nil
}

func (sd *side) state() string {
	return filepath.Join(sd.node.BPFFS(), fmt.Sprintf("v%d", datapath.ABI))
}

// timed is the run time of a process whose output is discarded.
func timed(cmd *exec.Cmd, start func(*exec.Cmd) error) (time.Duration, error) {
	var complaint bytes.Buffer
	cmd.Stderr = &complaint // and its output is discarded
	began := time.Now()
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return 0, fmt.Errorf("run %v: %w: %s", cmd.Args, err, bytes.TrimSpace(complaint.Bytes()))
	}
	return time.Since(began), nil
}
