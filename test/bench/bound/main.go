// SPDX-License-Identifier: Apache-2.0

// Command bound measures what the bound of a reader's backlog costs and gives: streams of several write sizes under
// several bounds, all in turn in one run, against plain TCP (the kill switch) over the same veth and bridge.
package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

const rounds = 5

var (
	bounds = []uint32{0, 128 << 10, 512 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} // 0: plain TCP
	sizes  = []int{1 << 10, 16 << 10, 64 << 10}
	cpus   = []struct {
		name           string
		client, server int
	}{{"same CPU", 1, 1}, {"two CPUs", 0, 1}}
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bound:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, ".cache", "lab")
	if err := lab.BuildPlugins(ctx, bin); err != nil {
		return err
	}
	node, err := lab.NewNode(ctx, lab.Options{Name: "bound", BinDir: bin})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := node.Close(); err == nil {
			err = closeErr
		}
	}()
	client, server, err := pods(ctx, node)
	if err != nil {
		return err
	}
	d, err := datapath.Open(node.BPFFS())
	if err != nil {
		return err
	}
	defer d.Close()
	return tables(ctx, d, client, server)
}

func pods(ctx context.Context, node *lab.Node) (client, server *lab.Pod, err error) {
	conflist, err := node.Conflist(lab.Network{
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.62.0.0/24")},
		Set:     map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	})
	if err != nil {
		return nil, nil, err
	}
	if client, err = node.NewPod(ctx, lab.PodSpec{Conflist: conflist}); err != nil {
		return nil, nil, err
	}
	server, err = node.NewPod(ctx, lab.PodSpec{Conflist: conflist})
	return client, server, err
}

func tables(ctx context.Context, d *datapath.Datapath, client, server *lab.Pod) error {
	for _, cpu := range cpus {
		s, err := server.Serve(ctx, server.IP4().String()+":0", cpu.server)
		if err != nil {
			return err
		}
		fmt.Printf("\n%s: GB/s as the reader saw it, median [least, most] of %d; share redirected\n", cpu.name, rounds)
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		for _, size := range sizes {
			if err := row(ctx, w, d, client, s.Addr(), cpu.client, size); err != nil {
				return err
			}
		}
		w.Flush()
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

func row(ctx context.Context, w *tabwriter.Writer, d *datapath.Datapath, client *lab.Pod, addr string, cpu, size int) error {
	rates, shares := make([][]float64, len(bounds)), make([][]float64, len(bounds))
	for range rounds {
		for i, bound := range bounds {
			rate, share, err := stream(ctx, d, client, addr, cpu, size, bound)
			if err != nil {
				return err
			}
			rates[i], shares[i] = append(rates[i], rate), append(shares[i], share)
		}
	}
	for i, bound := range bounds {
		slices.Sort(rates[i])
		slices.Sort(shares[i])
		fmt.Fprintf(w, "writes of %d\tbound %d KiB\t%.2f\t[%.2f, %.2f]\t%.0f %%\n", size, bound>>10,
			rates[i][rounds/2]/1e9, rates[i][0]/1e9, rates[i][rounds-1]/1e9, 100*shares[i][rounds/2])
	}
	return nil
}

func stream(ctx context.Context, d *datapath.Datapath, client *lab.Pod, addr string, cpu, size int, bound uint32) (rate, share float64, err error) {
	if err := d.SetDisabled(bound == 0); err != nil {
		return 0, 0, err
	}
	if err := d.SetLive(datapath.Live{MaxBacklogBytes: max(bound, 1), MaxBacklogMessages: 4096}); err != nil {
		return 0, 0, err
	}
	before, err := sent(d)
	if err != nil {
		return 0, 0, err
	}
	r, err := client.Measure(ctx, "stream", addr, cpu, "-size", strconv.Itoa(size), "-duration", (400 * time.Millisecond).String())
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(20 * time.Millisecond) // the last socket closes
	after, err := sent(d)
	redirected, tcp := after[0]-before[0], after[1]-before[1]
	return r.BytesPerSecond, float64(redirected) / max(1, float64(redirected+tcp)), err
}

func sent(d *datapath.Datapath) (sum [2]uint64, err error) {
	totals, err := d.Totals()
	for _, t := range totals {
		sum[0] += t.RedirectedBytes
		sum[1] += t.TCPBytes
	}
	return sum, err
}
