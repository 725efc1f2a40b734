// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// A Side is one of the two ends of a place.
type Side int

// The client connects to the server.
const (
	Client Side = iota
	Server
)

func (s Side) String() string { return [...]string{"client", "server"}[s] }

// Bytes are how much of what was sent in a place travelled how, retransmissions
// not counted.
type Bytes struct {
	Redirected uint64 `json:"redirected"`
	TCP        uint64 `json:"tcp"`
}

// A Place is two ends between which TCP connections can be made. Its methods may
// be called by several goroutines.
type Place interface {
	// Socket makes a socket that belongs to side, closed on exec. The caller
	// closes it.
	Socket(side Side, domain, typ, proto int) (fd int, err error)
	// Addr is the address of side itself, by which the other end reaches it.
	Addr(side Side) netip.Addr
	// Target is where the client connects to reach what listens on this port
	// of the server, which may be a service's address instead of the server's.
	Target(port uint16) (netip.AddrPort, error)
	// Command is a command that Start can start. It is killed when ctx ends.
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
	// Start starts a command at side. The caller waits for it.
	Start(side Side, cmd *exec.Cmd) error
	// Steer lets f change what the verdict goes by, or read it: with the data path, and the cookie of the
	// server's network namespace. Node-wide switches reach the other places of the site. It does nothing on
	// plain TCP.
	Steer(f func(d *datapath.Datapath, cookie uint64) error) error
	// Carried counts the bytes of all connections since the place was made.
	// It stays zero on plain TCP, where nobody counts.
	Carried() (Bytes, error)
	// Close removes what the place consists of. Sockets are their owners'.
	Close() error
}

// A Site makes places of one kind.
type Site interface {
	// Name is what the kind is called on the command line.
	Name() string
	// Place makes a place, accelerated or on plain TCP.
	Place(ctx context.Context, accelerated bool) (Place, error)
	// Guards are the names of the guards that run. Only places know them, so
	// it is empty before the first accelerated one.
	Guards() ([]string, error)
	// Close removes what its places, which are closed before, have shared.
	Close() error
}

// Options are what sites are made with.
type Options struct {
	// Guards are to run, as far as the kernel lets them.
	Guards bool
	// AcceptHazards accelerates whatever hazards the kernel has. Without it
	// the shipped default decides, for which the program has to begin with
	// probe.Main.
	AcceptHazards bool
	// BinDir has the CNI plugins; if it is empty, they are built. Only sites
	// made of pods need it.
	BinDir string
	// Log gets what plugins say.
	Log io.Writer
}

// sites are the ways to make each kind.
var sites = map[string]func(context.Context, string, Options) (Site, error){
	"loopback": openLoopback,
	"pod":      openPods,
	"pods":     openPods,
	"pods6":    openPods,
	"service":  openPods,
}

// Names lists the kinds of sites.
func Names() []string { return slices.Sorted(maps.Keys(sites)) }

// Open makes the site of this kind:
//
//	loopback  a network namespace, both ends on its loopback interface; needs nothing but a kernel
//	pod       the same in a pod that the real plugins have made
//	pods      two pods on a bridge
//	pods6     the same by IPv6
//	service   the same through a service's address
func Open(ctx context.Context, kind string, o Options) (Site, error) {
	open := sites[kind]
	if open == nil {
		return nil, fmt.Errorf("open place %q: it is not one of %s", kind, strings.Join(Names(), ", "))
	}
	return open(ctx, kind, o)
}
