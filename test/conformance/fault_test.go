// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/known"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// A suite that finds no difference may be unable to find any. Here the accelerated side is plain TCP through
// a relay that does to a stream what acceleration must not do.

// A fault changes the stream from client to server, from this position on.
type fault func(b []byte) []byte

const position = 1000

func faithful(b []byte) []byte { return b }

func dropByte(b []byte) []byte { return append(b[:position:position], b[position+1:]...) }

func repeatByte(b []byte) []byte {
	return append(append(b[:position:position], b[position]), b[position:]...)
}

func swapBytes(b []byte) []byte {
	b[position], b[position+1] = b[position+1], b[position]
	return b
}

func flipBit(b []byte) []byte {
	b[position] ^= 1
	return b
}

// stall holds the rest back for ever.
func stall(b []byte) []byte { return b[:position] }

type relaySite struct {
	place.Site
	fault fault
}

func (s relaySite) Place(ctx context.Context, accelerated bool) (place.Place, error) {
	p, err := s.Site.Place(ctx, false)
	if err != nil || !accelerated {
		return p, err
	}
	return &relayPlace{Place: p, fault: s.fault}, nil
}

type relayPlace struct {
	place.Place
	fault fault
	mu    sync.Mutex
	open  []io.Closer
}

func (p *relayPlace) keep(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = append(p.open, c)
}

func (p *relayPlace) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
	return p.Place.Close()
}

// Target starts a relay in front of the port.
func (p *relayPlace) Target(port uint16) (netip.AddrPort, error) {
	fd, err := p.Socket(place.Server, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if err := unix.Listen(fd, 16); err != nil { // on a port that the kernel chooses
		unix.Close(fd)
		return netip.AddrPort{}, err
	}
	f := os.NewFile(uintptr(fd), "relay")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p.keep(l)
	go p.relay(l, port)
	return netip.AddrPortFrom(p.Addr(place.Server), uint16(l.Addr().(*net.TCPAddr).Port)), nil
}

func (p *relayPlace) relay(l net.Listener, port uint16) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := p.dial(port)
		if err != nil {
			in.Close()
			continue
		}
		p.keep(in)
		p.keep(out)
		go pump(out, in, p.fault)
		go pump(in, out, faithful)
	}
}

func (p *relayPlace) dial(port uint16) (net.Conn, error) {
	fd, err := p.Socket(place.Server, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "relay")
	defer f.Close()
	to := unix.SockaddrInet4{Port: int(port), Addr: p.Addr(place.Server).As4()}
	if err := unix.Connect(fd, &to); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// pump applies the fault once, to the first piece that is long enough.
func pump(to, from net.Conn, f fault) {
	buf := make([]byte, 64<<10)
	done := false
	for {
		n, err := from.Read(buf)
		b := buf[:n:n]
		if n > position+2 && !done {
			done = true
			whole := len(b)
			if b = f(append([]byte{}, b...)); len(b) == position && whole > position {
				_, _ = to.Write(b)
				_, _ = io.Copy(io.Discard, from) // stalled
				return
			}
		}
		if _, werr := to.Write(b); err != nil || werr != nil {
			to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

func TestSuiteFindsTheFaultsOfARelay(t *testing.T) {
	streams := []string{"traffic/odd-sizes", "traffic/ping-pong-1-to-256-kib", "sendfile/large",
		"go/read-from-file"}
	const hangs, loses = 1, 2
	for name, tt := range map[string]struct {
		fault fault
		finds int // one of these; 0: nothing
	}{
		// Whether a last byte is missing or late cannot be known if no end follows.
		"drops a byte":    {dropByte, loses | hangs},
		"repeats a byte":  {repeatByte, loses},
		"swaps two bytes": {swapBytes, loses},
		"flips a bit":     {flipBit, loses},
		"stalls":          {stall, hangs},
		"changes nothing": {faithful, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := relaySite{openSite(t, "loopback", place.Options{AcceptHazards: true}), tt.fault}
			report := runSuite(t, suite.Runner{Site: site}, named(t, streams...))
			for _, stream := range streams {
				c := find(t, report, stream)
				found := 0
				if c.Hangs {
					found |= hangs
				}
				if c.Loses {
					found |= loses
				}
				if tt.finds == 0 && c.Verdict != suite.Same || tt.finds != 0 && found&tt.finds == 0 {
					t.Errorf("%s is %s: loses %v, hangs %v, %v", stream, c.Verdict, c.Loses, c.Hangs, c.Differences)
				}
			}
			if failures := known.Failures(report); len(failures) > 0 != (tt.finds != 0) {
				t.Errorf("failures %v", failures)
			}
		})
	}
}

func TestCaseThatIsNotRedirectedFails(t *testing.T) {
	site := relaySite{openSite(t, "loopback", place.Options{AcceptHazards: true}), faithful}
	report := runSuite(t, suite.Runner{Site: site, Accepted: true}, named(t, "recv/read", "recv/dontwait-empty"))
	if !find(t, report, "recv/read").Unengaged || find(t, report, "recv/dontwait-empty").Unengaged {
		t.Errorf("results %+v", report.Cases)
	}
	if len(known.Failures(report)) != 1 {
		t.Errorf("failures %v, want that of recv/read", known.Failures(report))
	}
}

func TestMissingProgramFailsWithItsPackage(t *testing.T) {
	site := openSite(t, "loopback", place.Options{AcceptHazards: true})
	report := runSuite(t, suite.Runner{Site: site, Accepted: true}, []suite.Case{{
		Name: "program/none", Alone: true, Run: func(*suite.T) {},
		Needs: []suite.Program{{Name: "no-such-program", Package: "no-such-package"}},
	}})
	want := "program/none: could not be run: find no-such-program: it is not in PATH (Debian package no-such-package)"
	if got := known.Failures(report); len(got) != 1 || got[0] != want {
		t.Errorf("failures %q, want %q", got, want)
	}
}

func TestEveryHangIsBounded(t *testing.T) {
	site := openSite(t, "loopback", place.Options{AcceptHazards: true})
	// Nothing but the end of the test ends this case's runs: their goroutines must not outlive it.
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	start := time.Now()
	report := runSuite(t, suite.Runner{Site: site, Accepted: true, Control: true}, []suite.Case{
		{Name: "hang/recv", Limit: time.Second, Run: func(t *suite.T) {
			t.S.Endless()
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "hang/recv-in-kernel", Blocking: true, Limit: time.Second, Run: func(t *suite.T) {
			t.S.Endless()
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "hang/program", Alone: true, Limit: time.Second, Run: func(t *suite.T) {
			p := t.Start(place.Server, suite.Command{Name: "sleep", Args: []string{"60"}})
			t.See("sleep", p.End())
		}},
		{Name: "hang/for-good", Alone: true, Limit: time.Second, Run: func(*suite.T) { <-ended }},
	})
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("four cases that hang took %v", took)
	}
	for _, c := range report.Cases {
		if last := c.Plain[len(c.Plain)-1]; last.Name != "watchdog" {
			t.Errorf("%s: last observation %v, want the watchdog's", c.Name, last)
		}
	}
}
