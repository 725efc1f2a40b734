// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/explain"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/vishvananda/netlink"
)

// meter counts what two pods have sent each other since it was made.
type meter struct {
	d              *datapath.Datapath // nil: nothing is loaded
	client, server side
}

// side is a pod, and its counts at the beginning.
type side struct {
	pod    *lab.Pod
	peer   netip.Addr
	before sent
	seen   map[uint64]bool // socket cookie -> without O_NONBLOCK
}

// sent are counts of the bytes that the sockets of a pod have sent.
type sent struct {
	redirected uint64
	wire       uint64 // payload that went through the pod's interface
	results    map[string]uint64
	reasons    map[string]uint64
}

func newMeter(s *session) (*meter, error) {
	m := &meter{
		client: side{pod: s.client, peer: s.server.IP4(), seen: map[uint64]bool{}},
		server: side{pod: s.server, peer: s.client.IP4(), seen: map[uint64]bool{}},
	}
	var err error
	if m.d, err = datapath.Open(s.node.BPFFS()); err != nil && !errors.Is(err, datapath.ErrNotLoaded) {
		return nil, err
	} else if err != nil {
		m.d = nil
	}
	for _, e := range []*side{&m.client, &m.server} {
		if e.before, err = m.sent(e.pod); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// headers are the lengths of the headers of a TCP segment with time stamps, in an IPv4 packet in an Ethernet
// frame.
const headers = 14 + 20 + 32

// sent reads the counts. Redirected bytes do not pass the interface. A packet of many segments has one header
// there.
func (m *meter) sent(p *lab.Pod) (s sent, err error) {
	err = p.Do(func() error {
		link, err := netlink.LinkByName(p.Spec().IfName)
		if err != nil {
			return err
		}
		n := link.Attrs().Statistics
		s.wire = n.TxBytes - min(n.TxBytes, headers*n.TxPackets)
		return nil
	})
	if err != nil || m.d == nil {
		return s, err
	}
	s.results, s.reasons = map[string]uint64{}, map[string]uint64{}
	all, err := m.d.Totals()
	if err != nil {
		return s, err
	}
	t := all[p.NetNSCookie()]
	s.redirected = t.RedirectedBytes
	for _, results := range t.Flows {
		for result, n := range results {
			s.results[result.String()] += n
		}
	}
	for reason, n := range t.Fallbacks {
		s.reasons[reason.String()] += n
	}
	return s, m.d.FlowsIn([]string{p.NetNS()}, func(f datapath.Flow) bool {
		s.redirected += f.RedirectedBytes
		return true
	})
}

// watch looks at the descriptors of both ends until stop is called.
func (m *meter) watch() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			m.client.look()
			m.server.look()
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() { close(quit); <-done }
}

// look records the sockets that are connected to the other pod. It may miss processes and descriptors that
// exist only for a moment.
func (e *side) look() {
	list, _ := os.ReadFile(filepath.Join(e.pod.ContainerCgroup(), "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(list)) {
		process, err := strconv.Atoi(pid)
		if err != nil || process == os.Getpid() {
			continue
		}
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", process))
		for _, fd := range fds {
			n, err := strconv.Atoi(fd.Name())
			if err != nil {
				continue
			}
			s, err := explain.ReadSocket(process, n)
			if err == nil && s.Connected && s.Remote.Addr().Unmap() == e.peer {
				e.seen[s.SocketCookie] = !s.NonBlocking
			}
		}
	}
}

// result waits until the client's sockets are closed, and fills in both ends. The bytes that an end has
// received are those that the other has sent.
func (m *meter) result(c *Case) error {
	if m.d != nil {
		defer m.d.Close()
	}
	client, err := m.since(&m.client)
	if err != nil {
		return err
	}
	server, err := m.since(&m.server)
	if err != nil {
		return err
	}
	// This is counted at the end that connects, so a server's counts are connections to others, such as
	// RabbitMQ's to epmd. The client may have such connections, too (pika's to itself): if all of its
	// connections to the server have joined, the client counts as joined.
	blocking := datapath.ResultBlocking.String()
	delete(server.results, blocking)
	if seen := len(m.client.seen); seen > 0 && client.results[datapath.ResultJoined.String()] >= uint64(seen) {
		delete(client.results, blocking)
	}
	c.Client.fill(&m.client, server, client)
	c.Server.fill(&m.server, client, server)
	return nil
}

func (m *meter) since(e *side) (sent, error) {
	now, err := m.sent(e.pod)
	now.redirected -= min(now.redirected, e.before.redirected)
	now.wire -= min(now.wire, e.before.wire)
	subtract(now.results, e.before.results)
	subtract(now.reasons, e.before.reasons)
	return now, err
}

func subtract(now, before map[string]uint64) {
	for name, n := range before {
		now[name] -= n
	}
	maps.DeleteFunc(now, func(_ string, n uint64) bool { return n == 0 })
}

// fill fills in the bytes from the peer. Results may be of either end: an end that does not take part keeps
// the other on TCP, too.
func (e *End) fill(s *side, peer, own sent) {
	e.Redirected, e.Received = peer.redirected, peer.redirected+peer.wire
	e.Sockets = len(s.seen)
	for _, blocks := range s.seen {
		if blocks {
			e.Blocking++
		}
	}
	if e.Share() < enough {
		e.Reasons = reasonsOf(own, peer)
	}
}
