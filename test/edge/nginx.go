// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

const (
	stopped = 600 * time.Millisecond // how long the worker is stopped
	port    = 8080
)

// posts are the bodies, the sizes of the writes, and nginx's buffers. If its buffer takes the whole body, it
// never uses FIONREAD. With smaller buffers (16k is the default) it hangs on a kernel with the hazard
// fionread-tcp.
var posts = []struct {
	body, write int
	buffer      string
}{{10_000_000, 64 << 10, "16m"}, {600_000, 100, "16m"}, {10_000_000, 64 << 10, "16k"}, {600_000, 100, "16k"}}

// nginx posts to an nginx whose worker is stopped. nginx passes the body to our server, which replies with
// its hash.
func nginx(ctx context.Context, o options, ends place.Place) error {
	upstream, err := hashes(ends)
	if err != nil {
		return err
	}
	worker, stop, err := startNginx(ctx, ends, upstream)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println("body B in writes of B, read into | posts | hangs | s p50, max | redirected | changes to TCP, by reason")
	for _, p := range posts {
		before, err := look(ends)
		if err != nil {
			return err
		}
		var m measured
		for range o.rounds {
			took, err := post(ends, worker, pattern(p.body), p.write, "/"+p.buffer)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				m.hangs++
			} else {
				m.delays = append(m.delays, took)
			}
			if ctx.Err() != nil || m.hangs >= o.hangs {
				break
			}
		}
		after, err := look(ends)
		if err != nil {
			return err
		}
		share, reasons := after.since(before)
		fmt.Printf("%10d %10d %s | %5d | %3d | %.2f %.2f | %3.0f %% | %s\n", p.body, p.write, p.buffer,
			len(m.delays)+m.hangs, m.hangs, m.quantile(0.5)/1000, m.quantile(1)/1000, 100*share, reasons)
	}
	return ctx.Err()
}

// hashes starts a server at the client's end that replies to a body with its hash, until the program ends.
func hashes(ends place.Place) (addr unix.Sockaddr, err error) {
	fd, addr, err := listen(ends)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := sha256.New()
			if _, err := io.Copy(h, r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
			fmt.Fprintf(w, "%x", h.Sum(nil))
		}))
	}()
	return addr, nil
}

const nginxConfig = `daemon off;
master_process on;
worker_processes 1;
pid %[1]s/pid;
error_log stderr crit;
events { worker_connections 64; }
http {
    access_log off;
    client_max_body_size 0;
    client_body_timeout 5s;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server {
        listen 127.0.0.1:%[2]d;
        location /16k { proxy_pass http://127.0.0.1:%[3]d; }
        location /16m { proxy_pass http://127.0.0.1:%[3]d; client_body_buffer_size 16m; }
    }
}
`

// startNginx returns the process id of its worker.
func startNginx(ctx context.Context, ends place.Place,
	upstream unix.Sockaddr) (worker int, stop func(), err error) {
	dir, err := os.MkdirTemp("", "edge-")
	if err != nil {
		return 0, nil, err
	}
	config := fmt.Sprintf(nginxConfig, dir, port, upstream.(*unix.SockaddrInet4).Port)
	path := filepath.Join(dir, "nginx.conf")
	// The worker runs as another user.
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, []byte(config), 0o644)); err != nil {
		return 0, nil, err
	}
	cmd := ends.Command(ctx, "nginx", "-p", dir, "-c", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	if err := ends.Start(place.Server, cmd); err != nil {
		return 0, nil, err
	}
	stop = func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	if worker, err = workerOf(cmd); err != nil {
		stop()
	}
	return worker, stop, err
}

// workerOf waits for the worker process, which the master starts once it listens.
func workerOf(master *exec.Cmd) (pid int, err error) {
	path := fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", master.Process.Pid)
	for range 500 {
		children, err := os.ReadFile(path)
		if err != nil {
			return 0, fmt.Errorf("find nginx's worker: %w", err)
		}
		if f := strings.Fields(string(children)); len(f) > 0 {
			return strconv.Atoi(f[0])
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, errors.New("nginx has no worker")
}

// post makes a connection, sends a small body, and stops the worker while it sends the other one. It returns
// the duration of the second request from the moment that the worker continued.
func post(ends place.Place, worker int, body []byte, write int, path string) (took time.Duration, err error) {
	fd, err := dial(ends, &unix.SockaddrInet4{Addr: ends.Addr(place.Server).As4(), Port: port})
	if err != nil {
		return 0, err
	}
	file := os.NewFile(uintptr(fd), "connection")
	c, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	if err := request(c, answers, path, body[:100], 100); err != nil {
		return 0, err
	}
	if err := unix.Kill(worker, unix.SIGSTOP); err != nil {
		return 0, fmt.Errorf("stop worker: %w", err)
	}
	goesOn := make(chan time.Time, 1)
	time.AfterFunc(stopped, func() {
		goesOn <- time.Now()
		_ = unix.Kill(worker, unix.SIGCONT)
	})
	err = request(c, answers, path, body, write)
	return time.Since(<-goesOn), err
}

// request sends a body and checks the answer.
func request(c net.Conn, answers *bufio.Reader, path string, body []byte, write int) error {
	if err := c.SetDeadline(time.Now().Add(stopped + 2*patience)); err != nil {
		return err
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: edge\r\nContent-Length: %d\r\n\r\n", path, len(body))
	if _, err := io.WriteString(c, head); err != nil {
		return err
	}
	for left := body; len(left) > 0; {
		n, err := c.Write(left[:min(write, len(left))])
		if err != nil {
			return fmt.Errorf("post: write: %w", err)
		}
		left = left[n:]
	}
	r, err := http.ReadResponse(answers, nil)
	if err != nil {
		return fmt.Errorf("post: read answer: %w", err)
	}
	defer r.Body.Close()
	got, err := io.ReadAll(r.Body)
	if want := fmt.Appendf(nil, "%x", sha256.Sum256(body)); err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("post: status %s, %q instead of the hash %q", r.Status, got, want)
	}
	return err
}
