// SPDX-License-Identifier: Apache-2.0

// Command picture draws docs/images/top.svg: sockmapctl top in a real terminal, over real traffic between
// containers.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

const (
	columns, rows = 112, 13
	limit         = 3 * time.Minute
)

func main() {
	out := flag.String("o", "docs/images/top.svg", "file to write")
	watch := flag.Duration("watch", 40*time.Second, "how long traffic runs before the picture is taken")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	err := draw(ctx, *out, *watch)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func draw(ctx context.Context, out string, watch time.Duration) (err error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, ".cache", "lab")
	if err := lab.BuildPlugins(ctx, bin); err != nil {
		return err
	}
	ctl := filepath.Join(bin, "sockmapctl")
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", ctl,
		filepath.Join(root, "plugin", "sockmapctl")).CombinedOutput(); err != nil {
		return fmt.Errorf("build sockmapctl: %w: %s", err, text)
	}
	var log bytes.Buffer
	node, err := lab.NewNode(ctx, lab.Options{Name: fmt.Sprintf("picture%d", os.Getpid()), BinDir: bin,
		Log: &log})
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, node.Close()); err != nil {
			os.Stderr.Write(log.Bytes())
		}
	}()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := talk(ctx, node); err != nil {
		return err
	}
	capture, err := film(ctx, ctl, node.BPFFS(), watch)
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(picture(capture, columns, rows)), 0o644)
}

// talk makes pods that exchange traffic until ctx ends: small requests, larger ones, and a stream whose
// reader is slow.
func talk(ctx context.Context, node *lab.Node) error {
	conflist, err := node.Conflist(lab.Network{
		Name: "shop", Bridge: "br-shop",
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.62.9.0/24")},
		Set:     map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	})
	if err != nil {
		return err
	}
	pods := map[string]*lab.Pod{}
	for _, name := range []string{"web-0", "web-1", "cache-0", "db-0", "logs-0"} {
		if pods[name], err = node.NewPod(ctx, lab.PodSpec{Namespace: "shop", Name: name,
			Conflist: conflist}); err != nil {
			return err
		}
	}
	for _, c := range []conversation{
		{"web-0", "cache-0", 6379, 256, time.Millisecond, 0},
		{"web-1", "cache-0", 6379, 256, 2 * time.Millisecond, 0},
		{"web-0", "db-0", 5432, 16 << 10, 3 * time.Millisecond, 0},
		{"web-1", "db-0", 5432, 16 << 10, 5 * time.Millisecond, 0},
		{"web-0", "logs-0", 514, 64 << 10, 2 * time.Millisecond, 20 * time.Millisecond},
		{"web-1", "logs-0", 514, 1 << 10, 20 * time.Millisecond, time.Millisecond},
	} {
		if err := c.begin(ctx, pods[c.from], pods[c.to]); err != nil {
			return fmt.Errorf("%s to %s: %w", c.from, c.to, err)
		}
	}
	return nil
}

// conversation is one connection: messages of this size with a pause after each, and a reader that pauses
// after each read.
type conversation struct {
	from, to string
	port     uint16
	size     int
	pause    time.Duration
	reader   time.Duration // 0: it answers each message in full
}

func (c conversation) begin(ctx context.Context, from, to *lab.Pod) error {
	addr := netip.AddrPortFrom(to.IP4(), c.port).String()
	l, err := to.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	client, err := from.DialContext(ctx, "tcp4", addr)
	if err != nil {
		return err
	}
	server, err := l.Accept()
	if err != nil {
		client.Close()
		return err
	}
	context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	go c.serve(server)
	go c.send(client)
	return nil
}

func (c conversation) serve(server net.Conn) {
	buf := make([]byte, c.size)
	for {
		if _, err := server.Read(buf); err != nil {
			return // it was closed at the end
		}
		if c.reader > 0 {
			time.Sleep(c.reader)
		} else if _, err := server.Write(buf[:64]); err != nil {
			return
		}
	}
}

func (c conversation) send(client net.Conn) {
	buf, answer := make([]byte, c.size), make([]byte, 4096)
	for {
		if _, err := client.Write(buf); err != nil {
			return
		}
		if c.reader == 0 {
			if _, err := client.Read(answer); err != nil {
				return
			}
		}
		time.Sleep(c.pause)
	}
}

// film runs top in its own tmux server and returns its screen.
func film(ctx context.Context, ctl, bpffs string, watch time.Duration) (string, error) {
	dir, err := os.MkdirTemp("", "picture")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "tmux")
	tmux := func(args ...string) ([]byte, error) {
		out, err := exec.CommandContext(ctx, "tmux", append([]string{"-u", "-f", os.DevNull, "-S", socket},
			args...)...).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("tmux %s: %w: %s", args[0], err, out)
		}
		return out, nil
	}
	if _, err := tmux("new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(rows),
		"env", "LC_ALL=C.UTF-8", "TERM=screen-256color", "SOCKMAP_BPFFS_PATH="+bpffs, ctl, "top"); err != nil {
		return "", err
	}
	// The terminal is removed in any case.
	defer exec.CommandContext(context.WithoutCancel(ctx), "tmux", "-S", socket, "kill-server").Run()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(watch):
	}
	out, err := tmux("capture-pane", "-e", "-p")
	return string(out), err
}
