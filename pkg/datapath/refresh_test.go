// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// road is a path through a router that forgets connections.
type road struct {
	name  string
	ip    string // that clients connect to
	build func(*routed, *testing.T)
	many  int // accelerated connections on it
}

// Conntrack forgets a connection without packets. Redirected bytes are no packets, so a busy connection sends
// one message over TCP now and then. Without that message the connection breaks.
func TestConntrackKeepsBusyConnections(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	roads := func(many int) []road {
		return []road{
			{"service", serviceIP, (*routed).translate, many},
			{"policy", serverIP(0), (*routed).filter, 2 * many / 5},
		}
	}
	t.Run("with refresh", func(t *testing.T) { wantStateKept(t, d, g, roads(100)) })
	t.Run("without", func(t *testing.T) { wantStateLost(t, d, g, roads(40)) })
}

func TestIPVSKeepsBusyConnections(t *testing.T) {
	needIPVS(t)
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	t.Run("with refresh", func(t *testing.T) {
		wantStateKept(t, d, g, []road{{"IPVS", serviceIP, balanced, 20}})
	})
	t.Run("without", func(t *testing.T) { wantStateLost(t, d, g, []road{{"IPVS", serviceIP, balanced, 12}}) })
}

func balanced(r *routed, t *testing.T) { r.balance(t, acceleratedOn, plainOn) }

// needIPVS skips where the kernel is not built with it. Test guests load the module or say that they cannot.
func needIPVS(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		return
	}
	if inGuest() {
		t.Fatal("this guest has no IPVS")
	}
	t.Skip("this kernel has no IPVS; make test-vm runs it on kernels that have")
}

// journey is what a test of this file did and saw.
type journey struct {
	all               talks
	redirected, byTCP uint64 // bytes of the accelerated connections
	refreshes         uint64
	lasted            time.Duration // from the first connection until this was counted
}

func wantStateKept(t *testing.T, d *Datapath, g *group, roads []road) {
	t.Helper()
	const lasting = 15 * time.Second
	j := travel(t, d, g, time.Second, lasting, roads)
	faulty, table := j.all.only(isBusy).faults()
	if faulty != 0 {
		t.Errorf("%d connections failed that were never silent:\n%s", faulty, table)
	}
	// On a machine of any speed, only the first messages and some after a refresh use TCP.
	ways := uint64(directions(j.all.only(isAccelerated)))
	if most := (j.refreshes*5/4 + 3*ways) * exchangeBytes; j.byTCP > most || j.redirected == 0 {
		t.Errorf("%d bytes used TCP and %d by redirect, want at most %d over TCP", j.byTCP, j.redirected, most)
	}
	// One in two seconds, at least, where the reader is never seen to have caught up.
	each := float64(j.refreshes) / float64(ways)
	if least, most := 6.0, j.lasted.Seconds()+1; each < least || each > most {
		t.Errorf("each direction sent %.1f messages over TCP for its state's sake, want %.0f to %.0f", each, least,
			most)
	}
}

func wantStateLost(t *testing.T, d *Datapath, g *group, roads []road) {
	t.Helper()
	j := travel(t, d, g, 0, time.Duration(stateSeconds+2)*time.Second, roads)
	if faulty, table := j.all.only(func(k *talk) bool {
		return isBusy(k) && !isAccelerated(k)
	}).faults(); faulty != 0 {
		t.Errorf("%d connections failed on plain TCP:\n%s", faulty, table)
	}
	for _, r := range roads {
		for _, closes := range []bool{true, false} {
			some := j.all.only(func(k *talk) bool {
				return k.class == r.name && isBusy(k) && k.closes == closes
			})
			if faulty, table := some.faults(); faulty < len(some)/4 {
				t.Errorf("%d of %d failed, so few that the tests with refresh show nothing:\n%s", faulty, len(some),
					table)
			}
		}
	}
	if j.refreshes != 0 {
		t.Errorf("%d messages used TCP for their state's sake, want none", j.refreshes)
	}
}

func isBusy(k *talk) bool        { return k.kind != silent }
func isAccelerated(k *talk) bool { return k.accelerated }

// directions counts those in which messages are sent all the time.
func directions(all talks) (n int) {
	for _, k := range all {
		switch k.kind {
		case bothWays:
			n += 2
		case clientSends, serverSends:
			n++
		case silent:
		}
	}
	return n
}

// travel uses connections over the roads for a while and ends them.
func travel(t *testing.T, d *Datapath, g *group, refresh, lasting time.Duration, roads []road) *journey {
	t.Helper()
	if err := d.SetDisabled(false); err != nil {
		t.Fatal(err)
	}
	setRefresh(t, d, refresh)
	j, first := &journey{refreshes: refreshesOf(t, d)}, time.Now()
	for _, r := range roads {
		j.all = append(j.all, r.connect(t, g)...)
	}
	j.all.each((*talk).begin)
	before := tcpMessagesOf(t, d, j.all)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		j.all.each(func(k *talk) { k.busy(stop) })
	}()
	fixture.Elapse(lasting, "the journey, over which messages are counted")
	j.measure(t, d, before)
	j.lasted = time.Since(first)
	close(stop)
	<-ended
	j.end(t, d)
	_, table := j.all.faults()
	t.Logf("refresh %v: %d bytes redirected, %d over TCP, %.1f messages over TCP for each direction; faults:\n%s",
		refresh, j.redirected, j.byTCP, float64(j.refreshes)/float64(directions(j.all.only(isAccelerated))), table)
	j.wantSilentForgotten(t)
	return j
}

// end closes one half of the connections, and turns the kill switch on at once, before the router forgets the
// others.
func (j *journey) end(t *testing.T, d *Datapath) {
	t.Helper()
	for _, k := range j.all {
		if k.closes {
			k.client.Close()
		}
	}
	if err := d.SetDisabled(true); err != nil {
		t.Fatal(err)
	}
	j.all.each(func(k *talk) {
		if !k.closes {
			k.oneMore()
			k.client.Close()
		}
		if k.fault == "" {
			k.wantEnd(t)
		}
	})
}

// wantSilentForgotten expects that silent connections are forgotten, accelerated or not.
func (j *journey) wantSilentForgotten(t *testing.T) {
	t.Helper()
	quiet := j.all.only(func(k *talk) bool { return !isBusy(k) })
	if faulty, table := quiet.faults(); faulty != len(quiet) {
		t.Errorf("%d of %d silent connections failed, want all:\n%s", faulty, len(quiet), table)
	}
}

func setRefresh(t *testing.T, d *Datapath, every time.Duration) {
	t.Helper()
	err := d.update(func(c *bpf.SockmapConfig) { c.RefreshTicks = uint32(every >> 20) })
	if err != nil {
		t.Fatal(err)
	}
}

// connect makes the connections of a road: half of them send both ways, a quarter each one way. In addition
// there are some silent ones, and a fifth as many on plain TCP.
func (r road) connect(t *testing.T, g *group) (all talks) {
	t.Helper()
	net := newRouted(t)
	r.build(net, t)
	connect := func(f *frontend, class string, many int) {
		all = append(all, f.connect(t, class, bothWays, many/2)...)
		all = append(all, f.connect(t, class, clientSends, many/4)...)
		all = append(all, f.connect(t, class, serverSends, many/4)...)
		all = append(all, f.connect(t, class, silent, 2)...)
	}
	g.in(t, func() { connect(openFrontend(t, net, r.ip, acceleratedOn), r.name, r.many) })
	for _, k := range all {
		k.accelerated = true
	}
	connect(openFrontend(t, net, r.ip, plainOn), r.name+", plain TCP", max(r.many/5, 4))
	for i, k := range all {
		k.closes = i%2 == 0
	}
	return all
}

// measure reads what the accelerated connections have sent, and that the silent ones have not.
func (j *journey) measure(t *testing.T, d *Datapath, before map[*talk]uint64) {
	t.Helper()
	for _, f := range d.flowsOf(t) {
		j.redirected += f.RedirectedBytes
		j.byTCP += f.TCPBytes
	}
	j.refreshes = refreshesOf(t, d) - j.refreshes
	after := tcpMessagesOf(t, d, j.all)
	for _, k := range j.all {
		if !isBusy(k) && after[k] != before[k] {
			t.Errorf("a silent connection of %s sent %d messages over TCP", k.class, after[k]-before[k])
		}
	}
}

// tcpMessagesOf counts what both ends of the accelerated ones have sent over TCP.
func tcpMessagesOf(t *testing.T, d *Datapath, all talks) map[*talk]uint64 {
	t.Helper()
	byEnd := map[string]uint64{}
	for _, f := range d.flowsOf(t) {
		byEnd[f.Local.String()+f.Remote.String()] = f.TCPMessages
	}
	sums := map[*talk]uint64{}
	for _, k := range all {
		sums[k] = byEnd[k.client.LocalAddr().String()+k.client.RemoteAddr().String()] +
			byEnd[k.server.LocalAddr().String()+k.server.RemoteAddr().String()]
	}
	return sums
}
