// SPDX-License-Identifier: Apache-2.0

package cases

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

//go:embed testdata/peer.py
var peerPython string

//go:embed testdata/peer.js
var peerNode string

var (
	python  = suite.Program{Name: "python3", Package: "python3"}
	node    = suite.Program{Name: "node", Package: "nodejs"}
	haproxy = suite.Program{Name: "haproxy", Package: "haproxy"}
	nginx   = suite.Program{Name: "nginx", Package: "nginx-light"}
	redis   = suite.Program{Name: "redis-server", Package: "redis-server"}
	rediscl = suite.Program{Name: "redis-cli", Package: "redis-tools"}
)

// Programs lists the cases that run real programs.
func Programs() []Case {
	return suite.Expand(slices.Concat(goPrograms(), pythonPrograms(), nodePrograms(), servers()))
}

// programLimit is for programs that start slowly.
const programLimit = 25 * time.Second

// endpoint is the address of a program's listener.
type endpoint struct {
	side   place.Side
	port   uint16
	listen string // ADDRESS:PORT to listen on
	target netip.AddrPort
	direct netip.AddrPort // address of the listening end itself
}

// endpointAt finds a port that is free at side, below those that the kernel chooses for connections. The
// other end reaches it at target, which for the server may be the address of a service.
func endpointAt(t *T, side place.Side) endpoint {
	e := endpoint{side: side, direct: netip.AddrPortFrom(t.Place.Addr(side), 0)}
	for e.port == 0 {
		port := uint16(20000 + rand.IntN(10000))
		s := t.Socket(side, 0)
		if unix.Bind(s.FD, t.Address(netip.AddrPortFrom(e.any(), port))) == nil {
			e.port = port
		}
		s.Close()
	}
	e.direct = netip.AddrPortFrom(e.direct.Addr(), e.port)
	e.listen = netip.AddrPortFrom(e.any(), e.port).String()
	e.target = e.direct
	if side == place.Server {
		var err error
		e.target, err = t.Place.Target(e.port)
		t.Check(err, "find out where to connect")
	}
	return e
}

// any is the unspecified address of the family.
func (e endpoint) any() netip.Addr {
	if e.direct.Addr().Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// ready waits until a program listens at e.
func (e endpoint) ready(t *T, p *suite.Process) {
	for listening := false; !listening; {
		if p.Exited() || t.Context.Err() != nil {
			t.Fail("%s does not listen: %s", p.Path, p.Errors())
		}
		listening = t.Eventually(func() bool {
			s := t.Socket(e.side, 0)
			defer s.Close()
			return s.Connect(e.direct) == nil || p.Exited()
		})
	}
}

// goPrograms has cases of Go clients, servers and proxies, each in its own process.
func goPrograms() []Case {
	limited := func(c Case, run func(t *T)) Case {
		c.Alone, c.Limit, c.Run = true, programLimit, run
		return c
	}
	serve := func(t *T, side place.Side, mode string, size int) endpoint {
		e := endpointAt(t, side)
		child(t, side, nil, "go-serve", mode, e.listen, size).Said("listening")
		return e
	}
	dial := func(t *T, mode string, to netip.AddrPort, size int) {
		t.Received("client", child(t, place.Client, nil, "go-dial", mode, to, size).Output())
	}
	proxy := func(t *T, mode string, backend endpoint) endpoint {
		e := endpointAt(t, place.Server)
		child(t, place.Server, nil, "go-proxy", mode, e.listen, backend.direct).Said("listening")
		return e
	}
	return []Case{
		limited(Case{Name: "program/go-echo", Bulk: true}, func(t *T) {
			dial(t, "echo", serve(t, place.Server, "echo", 0).target, 4<<20)
		}),
		limited(Case{Name: "program/go-default-listener", Idle: "what an MPTCP listener accepts may be left alone"},
			func(t *T) {
				dial(t, "echo", serve(t, place.Server, "echo-mptcp", 0).target, 1<<20)
			}),
		limited(Case{Name: "program/go-http"}, func(t *T) {
			dial(t, "http", serve(t, place.Server, "http", 300_000).target, 0)
		}),
		limited(Case{Name: "program/go-proxy"}, func(t *T) {
			dial(t, "echo", proxy(t, "copy", serve(t, place.Client, "echo", 0)).target, 2<<20)
		}),
		limited(Case{Name: "program/go-header-proxy"}, func(t *T) {
			dial(t, "header-echo", proxy(t, "header", serve(t, place.Client, "echo", 0)).target, 2<<20)
		}),
		limited(Case{Name: "program/go-proxy-slow-client"}, func(t *T) {
			dial(t, "slow-get", proxy(t, "copy", serve(t, place.Client, "blob", 8<<20)).target, 0)
		}),
	}
}

// pair is a program as client and as server.
type pair struct {
	name           string
	server, client string // modes
	size           int
	waits          bool // calls wait in the kernel, at one end at least
}

func pythonPrograms() (list []Case) {
	for _, p := range []pair{
		{"asyncio", "asyncio-server", "asyncio-client", 1 << 20, false},
		{"selectors", "selectors-server", "sync-client", 300_000, true},
		{"sendfile", "sendfile-server", "receive", 1 << 20, true},
		{"lines", "asyncio-server", "lines-client", 0, true},
		{"timeout", "late-server", "timeout-client", 0, true},
		{"signals", "late-server", "alarmed-client", 0, true},
	} {
		list = append(list, peers("program/python-"+p.name, python, []string{"-c", peerPython}, p))
	}
	return list
}

// peers runs the same script at both ends.
func peers(name string, program suite.Program, script []string, p pair) Case {
	return Case{Name: name, Alone: true, Blocking: p.waits, Limit: programLimit, Needs: []suite.Program{program},
		Run: func(t *T) {
			e := endpointAt(t, place.Server)
			t.Start(place.Server, suite.Command{Name: program.Name, Args: append(slices.Clone(script),
				p.server, e.any().String(), fmt.Sprint(e.port), fmt.Sprint(p.size))}).Said("listening")
			client := t.Start(place.Client, suite.Command{Name: program.Name, Args: append(slices.Clone(script),
				p.client, e.target.Addr().String(), fmt.Sprint(e.target.Port()), fmt.Sprint(p.size))})
			if p.size > 0 {
				t.Received("client", client.Output())
			} else {
				t.See("client", client.Output())
			}
		}}
}

func nodePrograms() []Case {
	script := func(t *T) string {
		path := t.Dir() + "/peer.js"
		t.Check(os.WriteFile(path, []byte(peerNode), 0o600), "write script")
		return path
	}
	start := func(t *T, side place.Side, args ...any) *suite.Process {
		list := []string{script(t)}
		for _, a := range args {
			list = append(list, fmt.Sprint(a))
		}
		return t.Start(side, suite.Command{Name: node.Name, Args: list})
	}
	const size = 1 << 20
	return []Case{
		{Name: "program/node-pipe", Alone: true, Limit: programLimit, Needs: []suite.Program{node},
			Run: func(t *T) {
				e := endpointAt(t, place.Server)
				start(t, place.Server, "echo-server", e.any(), e.port).Said("listening")
				t.Received("client", start(t, place.Client, "client", e.target.Addr(), e.target.Port(), size).Output())
			}},
		{Name: "program/node-proxy", Alone: true, Limit: programLimit, Needs: []suite.Program{node},
			Run: func(t *T) {
				b, e := endpointAt(t, place.Client), endpointAt(t, place.Server)
				start(t, place.Client, "echo-server", b.any(), b.port).Said("listening")
				start(t, place.Server, "proxy", e.any(), e.port, 0, b.direct.Addr(), b.direct.Port()).Said("listening")
				t.Received("client", start(t, place.Client, "client", e.target.Addr(), e.target.Port(), size).Output())
			}},
	}
}
