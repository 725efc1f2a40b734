// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// patience bounds every wait that is expected to succeed.
const patience = 60 * time.Second

const megabyte = 1 << 20

// world is a node whose runtime calls the plugin of one of the two versions.
type world struct {
	*testing.T
	node     *lab.Node
	conflist []byte
	bin      string            // the runtime's directory of plugins
	versions map[string]string // directories of binaries, by version
}

const (
	older = "older"
	newer = "newer"
)

// newWorld makes a world that begins with a version.
func newWorld(t *testing.T, version string) *world {
	t.Helper()
	plugins := labtest.Plugins(t)
	w := &world{T: t, bin: t.TempDir(), versions: map[string]string{older: oldBinaries(t), newer: plugins}}
	all, err := os.ReadDir(plugins)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if err := os.Symlink(filepath.Join(plugins, e.Name()), filepath.Join(w.bin, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	w.use(version)
	w.node = labtest.NewNode(t, lab.Options{BinDir: w.bin})
	w.conflist = labtest.Conflist(t, w.node, lab.Network{
		Bridge: "br0", Subnets: []netip.Prefix{netip.MustParsePrefix("10.62.0.0/24")},
		Set: map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	})
	return w
}

// use makes the plugin of a version the one that the runtime finds, by one rename.
func (w *world) use(version string) {
	w.Helper()
	beside := filepath.Join(w.bin, "new")
	if err := errors.Join(os.Symlink(filepath.Join(w.versions[version], "sockmap"), beside),
		os.Rename(beside, filepath.Join(w.bin, "sockmap"))); err != nil {
		w.Fatal(err)
	}
}

func (w *world) pod(name string) *lab.Pod {
	w.Helper()
	return labtest.NewPod(w.T, w.node, lab.PodSpec{Name: name, Conflist: w.conflist})
}

// ctl runs sockmapctl of a version and returns its output and its exit code.
func (w *world) ctl(version string, args ...string) (said string, code int) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.versions[version], "sockmapctl"),
		append(args, "--bpffs-path", w.node.BPFFS())...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		w.Fatalf("run %v: %v", cmd, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (w *world) mustCtl(version string, args ...string) string {
	w.Helper()
	said, code := w.ctl(version, args...)
	if code != 0 {
		w.Fatalf("%s sockmapctl %s: exit code %d: %s", version, strings.Join(args, " "), code, said)
	}
	return said
}

// load lets a version load. It repeats, because the older version's probes have short time limits for a busy
// machine.
func (w *world) load(version string) {
	w.Helper()
	var said string
	for range 5 {
		var code int
		if said, code = w.ctl(version, "load"); code == 0 {
			return
		}
	}
	w.Fatalf("%s sockmapctl load: %s", version, said)
}

func (w *world) datapath() *datapath.Datapath {
	w.Helper()
	return labtest.Datapath(w, w.node)
}

// draining is the number of draining sockets by ABI, from status.
func (w *world) draining() map[uint32]int {
	w.Helper()
	var status struct {
		Node struct {
			Draining []struct {
				ABI     uint32 `json:"abi"`
				Sockets int    `json:"sockets"`
			} `json:"draining"`
		} `json:"node"`
	}
	if err := json.Unmarshal([]byte(w.mustCtl(newer, "status", "-o", "json")), &status); err != nil {
		w.Fatal(err)
	}
	found := map[uint32]int{}
	for _, d := range status.Node.Draining {
		found[d.ABI] = d.Sockets
	}
	return found
}

// connect makes a connection between two pods.
func (w *world) connect(from, to *lab.Pod) (client, server net.Conn) {
	w.Helper()
	l, err := to.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		w.Fatal(err)
	}
	defer l.Close()
	client, err = from.Dial("tcp", netip.AddrPortFrom(to.IP4(),
		l.Addr().(*net.TCPAddr).AddrPort().Port()).String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { client.Close() })
	return client, fixture.Accept(w, l)
}

// wireBytes is the number of bytes that have left a pod by its interface. Redirected bytes do not.
func wireBytes(t *testing.T, p *lab.Pod) (sent uint64) {
	t.Helper()
	err := p.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
			name, counts, ok := strings.Cut(lines.Text(), ":")
			if ok && strings.TrimSpace(name) == p.Spec().IfName {
				_, err := fmt.Sscan(strings.Fields(counts)[8], &sent)
				return err
			}
		}
		return fmt.Errorf("no interface %s in %s", p.Spec().IfName, table)
	})
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	fixture.WaitFor(t, patience, what, cond)
}
