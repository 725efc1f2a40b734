// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/pkg/metrics"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/sys/unix"
)

// patience bounds every wait that is expected to succeed.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	fixture.Call(setup.run)
	labtest.Main(m)
}

// setup configures an agent in a process of its own.
type setup struct {
	Source, BinDir, ConfDir, StateDir string
	Config                            string
	Uninstall                         bool
	Step                              int    // at this step, counted from 1,
	Signal                            string // it sends itself TERM or KILL
	Version                           string // of the programs that it loads; empty: test
}

// agent returns the agent that s describes, with signals for its own process.
func (s setup) agent(log io.Writer) (*Agent, error) {
	entry, err := install.NewEntry(s.Config, nil)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	n := 0
	step := func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n != s.Step {
			return nil
		}
		if s.Signal == "KILL" {
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
		arrived := make(chan os.Signal, 1)
		signal.Notify(arrived, unix.SIGTERM) // in addition to the handler that ends the agent
		unix.Kill(os.Getpid(), unix.SIGTERM)
		<-arrived
		return nil
	}
	logger := slog.New(slog.NewJSONHandler(log, nil))
	a := &Agent{
		Installer: &install.Installer{
			Source: s.Source, BinDir: s.BinDir, ConfDir: s.ConfDir, Entry: entry, Log: logger, Step: step,
		},
		Node: &endpoint.Node{
			Dir: s.StateDir, Log: logger, Step: step,
			Settings: datapath.Settings{MaxSockets: 1024, MaxBacklogBytes: 1 << 20, MaxBacklogMessages: 1024,
				Version: cmp.Or(s.Version, "test")},
		},
		Log: logger, Recheck: 10 * time.Second, Poll: 100 * time.Millisecond,
	}
	a.Metrics = &metrics.Collector{Version: "test", Open: func() (metrics.Source, error) {
		return metrics.Open(a.Node)
	}}
	if s.Uninstall {
		a.Uninstall = &install.Removal{Node: a.Node, DrainFor: time.Second}
	}
	return a, nil
}

// place is a node's directories.
type place struct {
	testing.TB
	setup
}

const (
	file = "10-net.conflist"
	list = `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"cilium-cni"}]}`
)

func newPlace(t testing.TB) *place {
	t.Helper()
	root, mount := t.TempDir(), t.TempDir()
	if err := unix.Mount("bpf", mount, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	p := &place{t, setup{
		Source: filepath.Join(labtest.Plugins(t), install.PluginType), BinDir: filepath.Join(root, "bin"),
		ConfDir: filepath.Join(root, "net.d"), StateDir: filepath.Join(mount, "sockmap"),
	}}
	t.Cleanup(func() {
		n := &endpoint.Node{Dir: p.StateDir}
		if _, err := n.Unload(context.Background(), true); err != nil {
			t.Errorf("unload: %v", err)
		}
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	p.mkdir(p.BinDir)
	p.mkdir(p.ConfDir)
	return p
}

func (p *place) mkdir(dir string) {
	p.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.Fatal(err)
	}
}

// write writes a file in place, as careless components do.
func (p *place) write(name, text string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.ConfDir, name), []byte(text), 0o644); err != nil {
		p.Fatal(err)
	}
}

// types are the plugins of the list, as libcni loads it; nil if it does not.
func (p *place) types() (types []string) {
	list, err := libcni.NetworkConfFromFile(filepath.Join(p.ConfDir, file))
	if err != nil {
		return nil
	}
	for _, plugin := range list.Plugins {
		types = append(types, plugin.Network.Type)
	}
	return types
}

func (p *place) chained() bool { return slices.Contains(p.types(), install.PluginType) }

func (p *place) loaded() bool {
	d, err := datapath.Open(p.StateDir)
	if err != nil {
		return false
	}
	d.Close()
	return true
}

// running is an agent in this process.
type running struct {
	*Agent
	log     *fixture.Output
	address string
	stop    func() error // ends it, once, and returns the result of Run
}

// start runs an agent, after f has changed it.
func (p *place) start(f ...func(*Agent)) *running {
	p.Helper()
	r := &running{log: &fixture.Output{}}
	var err error
	if r.Agent, err = p.agent(r.log); err != nil {
		p.Fatal(err)
	}
	serving := make(chan string, 1)
	r.Listen, r.Serving = "127.0.0.1:0", func(address string) { serving <- address }
	for _, change := range f {
		change(r.Agent)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var once sync.Once
	r.stop = func() (err error) {
		once.Do(func() {
			cancel()
			var ok bool
			if err, ok = fixture.ReceiveWithin(patience, ended); !ok {
				p.Errorf("the agent does not end\n%s", r.log)
			}
		})
		return err
	}
	p.Cleanup(func() {
		r.stop()
		if p.Failed() {
			p.Logf("log of the agent:\n%s", r.log)
		}
	})
	if r.Listen == "127.0.0.1:0" {
		r.address = fixture.Receive(p, "the agent serves", serving)
	}
	return r
}

// get sends a request to the agent's server.
func (r *running) get(t testing.TB, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patience}
	response, err := client.Get("http://" + r.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func (r *running) ready(t testing.TB) bool {
	t.Helper()
	code, _ := r.get(t, "/readyz")
	return code == http.StatusOK
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	fixture.Wait(t, what, cond)
}

// command returns an agent in a process of its own, not started.
func (p *place) command(log io.Writer) *exec.Cmd {
	p.Helper()
	cmd := fixture.Command(p, 2*patience, p.setup)
	cmd.Stderr = log
	return cmd
}

// leftovers are files of an installer that must not stay.
func (p *place) leftovers() (found []string) {
	for _, dir := range []string{p.ConfDir, p.BinDir} {
		some, err := filepath.Glob(filepath.Join(dir, ".sockmap-*"))
		if err != nil {
			p.Fatal(err)
		}
		found = append(found, some...)
	}
	// Files that installers lock are removed at uninstall.
	found = slices.DeleteFunc(found, func(path string) bool { return filepath.Base(path) == ".sockmap-lock" })
	return found
}
