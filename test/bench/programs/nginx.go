// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// nginxConfig is Debian's configuration for one worker, with connections that are kept open as long as wrk
// wants, and files below %[1]s. It listens on %[2]s.
const nginxConfig = `daemon off;
worker_processes 1;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 768; }
http {
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server { listen %[2]s; root %[1]s/files; }
}
`

// Files of the server, by name.
var nginxFiles = map[string]int{"1k": 1 << 10, "100k": 100 << 10}

const httpPort = 80

func nginx() program {
	return program{
		name:  "nginx",
		start: func(ctx context.Context, s *side) error { return startNginx(ctx, s, fmt.Sprint(httpPort)) },
		check: checkFiles,
		cells: []cell{
			{name: "nginx 1 keep-alive", goal: result.NotSlower, client: wrk(1, "1k")},
			{name: "nginx 32 keep-alive", goal: 2.0, two: true, client: wrk(32, "1k")},
			{name: "nginx 256 keep-alive", client: wrk(256, "1k")},
			{name: "nginx 32 close", goal: result.NotSlower, note: "a connection for each request",
				client: wrk(32, "1k", "-H", "Connection: close")},
			{name: "nginx 32 keep-alive 100 KiB", goal: result.NotSlower, client: wrk(32, "100k")},
		},
	}
}

func startNginx(ctx context.Context, s *side, listen string) error {
	files := filepath.Join(s.dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	for name, size := range nginxFiles {
		if err := os.WriteFile(filepath.Join(files, name), content(size), 0o644); err != nil {
			return err
		}
	}
	config := filepath.Join(s.dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, s.dir, listen), 0o644); err != nil {
		return err
	}
	return s.serve(ctx, spec{where: s.pods.Server, end: syscall.SIGTERM,
		args: []string{"nginx", "-p", s.dir, "-c", config}})
}

// content is random, and the same for the same size.
func content(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size >> 8)}).Read(b) // never fails
	return b
}

// checkFiles gets all files as wrk's clients do, and compares each byte.
func checkFiles(ctx context.Context, s *side) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return s.pods.Client.DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	web := http.Client{Timeout: 5 * time.Second, Transport: transport}
	for name, size := range nginxFiles {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(name), nil)
		if err != nil {
			return err
		}
		r, err := web.Do(request)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(io.LimitReader(r.Body, 2*int64(size)))
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !bytes.Equal(got, content(size)) {
			return fmt.Errorf("%s: %s, %d bytes that are not those of the file: %w", request.URL, r.Status, len(got),
				err)
		}
	}
	return nil
}

func (s *side) url(file string) string { return "http://" + s.at(httpPort) + "/" + file }
