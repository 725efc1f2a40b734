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

// Bytes are the sent bytes of a place, by the way that they took, without retransmissions.
type Bytes struct {
	Redirected uint64 `json:"redirected"`
	TCP        uint64 `json:"tcp"`
}

// A Place has two ends between which TCP connections can be made. Several goroutines may call its methods.
type Place interface {
	// Socket makes a socket that belongs to side, closed on exec. The caller
	// closes it.
	Socket(side Side, domain, typ, proto int) (fd int, err error)
	// Addr is the address at which the other end reaches side.
	Addr(side Side) netip.Addr
	// Target is the address to which the client connects to reach a listener on this port of the server. It
	// may be the address of a service.
	Target(port uint16) (netip.AddrPort, error)
	// Command is a command that Start can start. It is killed when ctx ends.
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
	// Start starts a command at side. The caller waits for it.
	Start(side Side, cmd *exec.Cmd) error
	// Steer calls f, which may read or change the state on which the verdict depends, with the data path and
	// the netns cookie of the server. Switches of the node also affect the other places of the site. Steer
	// does nothing on plain TCP.
	Steer(f func(d *datapath.Datapath, cookie uint64) error) error
	// Carried counts the bytes of all connections since the place was made. It stays zero on plain TCP.
	Carried() (Bytes, error)
	// Close removes the parts of the place. Its sockets belong to their owners.
	Close() error
}

// A Site makes places of one kind.
type Site interface {
	// Name is the name of the kind on the command line.
	Name() string
	// Place makes a place, accelerated or on plain TCP.
	Place(ctx context.Context, accelerated bool) (Place, error)
	// Guards are the names of the running guards. Only places know them, so it is empty before the first
	// accelerated place.
	Guards() ([]string, error)
	// Close removes what its places have shared. They must be closed before.
	Close() error
}

// Options are the options of Open.
type Options struct {
	// Guards: run guards, as far as the kernel allows.
	Guards bool
	// AcceptHazards accelerates in spite of the kernel's hazards. Without it the shipped default decides, for
	// which the program must call probe.Main first.
	AcceptHazards bool
	// BinDir is the directory of the CNI plugins. If it is empty, they are built. Only sites made of pods
	// need it.
	BinDir string
	// Log gets the messages of plugins.
	Log io.Writer
}

// sites are the functions that make each kind of site.
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
//	loopback  a network namespace, both ends on its loopback interface; needs only a kernel
//	pod       the same in a pod that the real plugins have made
//	pods      two pods on a bridge
//	pods6     the same over IPv6
//	service   the same through a service's address
func Open(ctx context.Context, kind string, o Options) (Site, error) {
	open := sites[kind]
	if open == nil {
		return nil, fmt.Errorf("open place %q: it is not one of %s", kind, strings.Join(Names(), ", "))
	}
	return open(ctx, kind, o)
}
