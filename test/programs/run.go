// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

//go:embed testdata
var scripts embed.FS

type options struct {
	out           io.Writer
	bin           string
	file          string // file of the report
	all           bool
	acceptHazards bool
	verbose       bool
	cases         []testCase
}

// runner has a node and two networks: with sockmap in the chain, and without.
type runner struct {
	options
	node        *lab.Node
	fast, plain []byte
	log         bytes.Buffer // messages of the plugins
}

// subnet has addresses for two pods of each case, because addresses are not reused immediately.
var subnet = netip.MustParsePrefix("10.64.0.0/20")

func run(ctx context.Context, o options) (report *Report, err error) {
	done, err := pods.Watch()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if o.bin == "" {
		root, err := lab.RepoRoot()
		if err != nil {
			return nil, err
		}
		if err := build(ctx); err != nil {
			return nil, err
		}
		o.bin = filepath.Join(root, ".cache", "lab")
	}
	r := &runner{options: o}
	if r.node, err = pods.NodeOf(ctx, o.bin, &r.log); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.node.Close()) }()
	if err := r.networks(); err != nil {
		return nil, err
	}
	report, err = newReport()
	if err != nil {
		return nil, err
	}
	return report, r.each(ctx, report)
}

// each runs the cases, and saves the report after each, so that an interrupted run keeps its results.
func (r *runner) each(ctx context.Context, report *Report) error {
	for _, c := range r.cases {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fmt.Fprintf(r.out, "%s: ", c.name)
		said := r.one(ctx, c)
		fmt.Fprintf(r.out, "%.1f s, client %.0f %%, server %.0f %% %s%s\n", said.Took.Seconds(),
			100*said.Client.Share(),
			100*said.Server.Share(), said.NotRun, said.Error)
		report.Cases = append(report.Cases, said)
		if err := r.about(report); err != nil {
			return err
		}
		if r.file == "" {
			continue
		}
		if err := report.write(r.file); err != nil {
			return err
		}
	}
	return nil
}

// networks makes the conflists. Their configuration is the shipped default, except for -accept-hazards.
func (r *runner) networks() (err error) {
	// Servers that do not run as root find their files below it.
	if err := os.Chmod(r.node.Dir(), 0o711); err != nil {
		return err
	}
	w := lab.Network{Name: "programs", Bridge: "br-programs", Subnets: []netip.Prefix{subnet}}
	if r.acceptHazards {
		w.Set = map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}}
	}
	if r.fast, err = r.node.Conflist(w); err != nil {
		return err
	}
	w.Without = []string{"sockmap"}
	r.plain, err = r.node.Conflist(w)
	return err
}

// about reads the facts about the kernel from the data path.
func (r *runner) about(report *Report) error {
	d, err := datapath.Open(r.node.BPFFS())
	if errors.Is(err, datapath.ErrNotLoaded) && !report.ran() {
		return nil // no case has loaded the state yet
	}
	if err != nil {
		return fmt.Errorf("nothing was loaded: %w: %s", err, r.log.Bytes())
	}
	defer d.Close()
	c, err := d.Config()
	if err != nil {
		return err
	}
	if !r.acceptHazards {
		report.Off = hazard.Set(c.Hazards &^ c.Guarded).Severe().Names()
	}
	states, err := d.GuardStates()
	report.Guards = []string{}
	for _, s := range states {
		if s.Active {
			report.Guards = append(report.Guards, s.Name)
		}
	}
	return err
}

// one runs a case, and again on plain TCP if it fails.
func (r *runner) one(ctx context.Context, c testCase) Case {
	client, clientCannot := c.client.describe(ctx)
	server, serverCannot := c.server.describe(ctx)
	said := Case{Name: c.name, Client: client, Server: server, NotRun: cmp.Or(clientCannot, serverCannot)}
	if said.NotRun != "" {
		return said
	}
	begin := time.Now()
	err := r.try(ctx, c, r.fast, &said)
	said.Took = time.Since(begin)
	if err != nil {
		said.Error = err.Error()
		if err := r.try(ctx, c, r.plain, nil); err != nil {
			said.Plain = err.Error()
		}
	}
	return said
}

// session is one try: two pods and a directory.
type session struct {
	*runner
	testCase
	dir            string
	client, server *lab.Pod
}

// try runs the case on a network and fills in the counts of bytes, unless said is nil.
func (r *runner) try(ctx context.Context, c testCase, conflist []byte, said *Case) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit(), fmt.Errorf("over the limit of %v", c.limit()))
	defer cancel()
	s := &session{runner: r, testCase: c}
	if s.dir, err = os.MkdirTemp(r.node.Dir(), "case-"); err != nil {
		return err
	}
	if err := s.files(); err != nil {
		return err
	}
	for name, pod := range map[string]**lab.Pod{"client": &s.client, "server": &s.server} {
		spec := lab.PodSpec{Name: c.name + "-" + name, Conflist: conflist}
		if *pod, err = r.node.NewPod(ctx, spec); err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, (*pod).Delete(ctx))
		}()
	}
	served, err := s.serve(ctx)
	if err == nil {
		err = s.measure(ctx, said)
	}
	if err != nil {
		return fmt.Errorf("%w; output of the server: %s", err, tail(served.String(), 1500))
	}
	return nil
}

func (s *session) files() error {
	if err := os.Chmod(s.dir, 0o777); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(s.dir, "files"), scripts); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "body"), body(), 0o644)
}

// command is a script with its parameters in the environment.
func (s *session) command(ctx context.Context, where *lab.Pod, script string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := where.Command(ctx, "sh", "-euc", script)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "DIR="+s.dir, "FILES="+s.dir+"/files/testdata",
		"SERVER="+s.server.IP4().String(),
		"PORT="+strconv.Itoa(s.port), "N="+strconv.Itoa(s.times()), "SELF="+self,
		"PEER="+filepath.Join(s.bin, "peer"), "HOME="+s.dir)
	return cmd, nil
}

// serve starts the server and waits until it accepts connections. It ends with its pod.
func (s *session) serve(ctx context.Context) (said *syncBuffer, err error) {
	said = &syncBuffer{}
	cmd, err := s.command(context.WithoutCancel(ctx), s.server, s.testCase.server.script)
	if err != nil {
		return said, err
	}
	cmd.Stdout, cmd.Stderr = said, said
	if err := s.server.Start(cmd); err != nil {
		return said, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	address := netip.AddrPortFrom(s.server.IP4(), uint16(s.port)).String()
	for {
		c, err := s.client.DialContext(ctx, "tcp", address)
		if err == nil {
			return said, c.Close()
		}
		select {
		case err := <-ended:
			return said, fmt.Errorf("the server has ended: %w", errors.Join(err, context.Cause(ctx)))
		case <-ctx.Done():
			return said, fmt.Errorf("the server takes no connection: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// measure runs the client and checks the data that it received.
func (s *session) measure(ctx context.Context, said *Case) error {
	meter, err := newMeter(s)
	if err != nil {
		return err
	}
	cmd, err := s.command(ctx, s.client, s.testCase.client.script)
	if err != nil {
		return err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := s.client.Start(cmd); err != nil {
		return err
	}
	stop := meter.watch()
	err = cmd.Wait()
	stop()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("client: %w: %s", err, tail(stdout.String()+stderr.String(), 1500))
	}
	if err := checkHashes(stdout.String(), s.times()); err != nil {
		return fmt.Errorf("client: %w: %s", err, tail(stderr.String(), 500))
	}
	if said == nil {
		return nil
	}
	return meter.result(said)
}
