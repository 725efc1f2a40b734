// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

func TestFlowsInListsItsNamespacesOnly(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var paths []string
	var clients []*net.TCPConn
	for range 2 {
		g.in(t, func() {
			netnstest.New(t).Do(func() {
				paths = append(paths, heldNetNS(t))
				l := listen(t, "tcp4", "127.0.0.1:0")
				clients = append(clients, dial(t, "tcp4", l.Addr().String()))
				accept(t, l)
			})
		})
	}
	for i, path := range paths {
		var ports []uint16
		if err := d.FlowsIn([]string{path, path}, func(f Flow) bool {
			ports = append(ports, f.Local.Port())
			return true
		}); err != nil {
			t.Fatal(err)
		}
		want := clients[i].LocalAddr().(*net.TCPAddr).Port
		if len(ports) != 2 || int(ports[0]) != want && int(ports[1]) != want {
			t.Errorf("namespace %d: ends with ports %d, want two of the connection from port %d", i, ports, want)
		}
	}
	if n := len(d.flowsOf(t)); n != 4 {
		t.Errorf("%d live ends in all, want 4", n)
	}
}

func TestFlowsInOfAMissingNamespaceIsAnError(t *testing.T) {
	d := load(t, defaults)
	err := d.FlowsIn([]string{"/run/netns/there-is-none"}, func(Flow) bool { return true })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want a missing file", err)
	}
}

// heldNetNS is a path to the calling thread's network namespace that holds until the end of the test.
func heldNetNS(t testing.TB) string {
	t.Helper()
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
}
