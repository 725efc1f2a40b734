// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net"
	"slices"
	"sync"
)

// Limits of open connections: for each address, and for all. Any host that can reach the address of the node
// may open some. A scraper needs one, the kubelet's probes need two.
const (
	maxPerAddress  = 16
	maxConnections = 256
)

// boundedListener closes the oldest connection when there is one too many: of the same address, if that has
// reached its limit, or else of all. So a client that keeps connections open cannot shut out others, such as
// the kubelet's probes.
type boundedListener struct {
	net.Listener
	perAddress, all int

	mu   sync.Mutex
	open []*boundedConn // the oldest first
}

type boundedConn struct {
	net.Conn
	listener *boundedListener
	address  string
}

func newBoundedListener(l net.Listener, perAddress, all int) *boundedListener {
	return &boundedListener{Listener: l, perAddress: perAddress, all: all}
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	address, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		address = conn.RemoteAddr().String()
	}
	c := &boundedConn{conn, l, address}
	if old := l.add(c); old != nil {
		_ = old.Conn.Close()
	}
	return c, nil
}

// add adds a connection, and returns the one that has to be closed for it, or nil.
func (l *boundedListener) add(c *boundedConn) (old *boundedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := 0
	for _, o := range l.open {
		if o.address != c.address {
			continue
		}
		if of++; old == nil {
			old = o
		}
	}
	switch {
	case of >= l.perAddress:
	case len(l.open) >= l.all:
		old = l.open[0]
	default:
		old = nil
	}
	l.remove(old)
	l.open = append(l.open, c)
	return old
}

func (l *boundedListener) remove(c *boundedConn) {
	if at := slices.Index(l.open, c); at >= 0 {
		l.open = slices.Delete(l.open, at, at+1)
	}
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.listener.mu.Lock()
	c.listener.remove(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
