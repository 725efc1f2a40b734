// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// servers has cases of widely used servers.
func servers() []Case {
	return []Case{
		{Name: "program/haproxy-splice", Alone: true, Limit: programLimit, Needs: []suite.Program{haproxy},
			Run: func(t *T) {
				throughHAProxy(t, "option splice-auto", "echo", "echo", 2<<20)
			}},
		{Name: "program/haproxy-splice-always", Alone: true, Limit: programLimit, Needs: []suite.Program{haproxy},
			Run: func(t *T) {
				throughHAProxy(t, "option splice-request\n    option splice-response", "echo", "echo", 2<<20)
			}},
		{Name: "program/haproxy-splice-slow-client", Alone: true, Limit: programLimit,
			Needs: []suite.Program{haproxy}, Run: func(t *T) {
				throughHAProxy(t, "option splice-auto", "blob", "slow-get", 6<<20)
			}},
		{Name: "program/haproxy-without-splice", Alone: true, Limit: programLimit, Needs: []suite.Program{haproxy},
			Run: func(t *T) {
				throughHAProxy(t, "", "echo", "echo", 2<<20)
			}},
		{Name: "program/nginx-file", Alone: true, Limit: programLimit, Needs: []suite.Program{nginx},
			Run: func(t *T) {
				t.Check(os.WriteFile(t.Dir()+"/index.html", pattern(2<<20, 90), 0o644), "write file")
				e := startNginx(t, "sendfile on; root "+t.Dir()+";")
				get(t, "slow-http", e)
			}},
		{Name: "program/nginx-proxy", Alone: true, Limit: programLimit, Needs: []suite.Program{nginx},
			Run: func(t *T) {
				b := backend(t, "http", 300_000)
				e := startNginx(t, fmt.Sprintf("proxy_pass http://%s; proxy_http_version 1.1;", b.direct))
				get(t, "http", e)
			}},
		{Name: "program/nginx-proxy-slow-client", Alone: true, Limit: programLimit, Needs: []suite.Program{nginx},
			Run: func(t *T) {
				b := backend(t, "http", 6<<20)
				e := startNginx(t, fmt.Sprintf("proxy_pass http://%s; proxy_max_temp_file_size 0;", b.direct))
				get(t, "slow-http", e)
			}},
		{Name: "program/redis", Alone: true, Limit: programLimit, Needs: []suite.Program{redis, rediscl},
			Run: redisCommands},
	}
}

// backend is a Go server at the client's end, so that both connections of a proxy are between the two ends.
func backend(t *T, mode string, size int) endpoint {
	e := endpointAt(t, place.Client)
	child(t, place.Client, nil, "go-serve", mode, e.listen, size).Said("listening")
	return e
}

func get(t *T, mode string, e endpoint) {
	t.Received("client", child(t, place.Client, nil, "go-dial", mode, e.target, 0).Output())
}

func throughHAProxy(t *T, option, server, client string, size int) {
	b, e := backend(t, server, size), endpointAt(t, place.Server)
	bind := fmt.Sprintf("0.0.0.0:%d", e.port)
	if e.direct.Addr().Is6() {
		bind = fmt.Sprintf("[::]:%d", e.port)
	}
	config := fmt.Sprintf(`global
    maxconn 100
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 15s
    timeout server 15s
    %s
frontend in
    bind %s
    default_backend out
backend out
    server one %s
`, option, bind, b.direct)
	path := t.Dir() + "/haproxy.cfg"
	t.Check(os.WriteFile(path, []byte(config), 0o600), "write configuration")
	p := t.Start(place.Server, suite.Command{Name: haproxy.Name, Args: []string{"-db", "-f", path}})
	e.ready(t, p)
	t.Received("client", child(t, place.Client, nil, "go-dial", client, e.target, size).Output())
}

// startNginx starts nginx with one location, with these directives.
func startNginx(t *T, location string) endpoint {
	e := endpointAt(t, place.Server)
	listen := fmt.Sprint(e.port)
	if e.direct.Addr().Is6() {
		listen = fmt.Sprintf("[::]:%d", e.port)
	}
	dir := t.Dir()
	t.Check(os.Chmod(dir, 0o755), "open directory") // the worker runs as another user
	config := fmt.Sprintf(`daemon off;
worker_processes 1;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server { listen %[2]s; location / { %[3]s } }
}
`, dir, listen, location)
	path := dir + "/nginx.conf"
	t.Check(os.WriteFile(path, []byte(config), 0o644), "write configuration")
	e.ready(t, t.Start(place.Server, suite.Command{Name: nginx.Name, Args: []string{"-p", dir, "-c", path}}))
	return e
}

// redisCommands sends requests with small and large replies.
func redisCommands(t *T) {
	e := endpointAt(t, place.Server)
	p := t.Start(place.Server, suite.Command{Name: redis.Name, Args: []string{
		"--port", fmt.Sprint(e.port), "--bind", e.any().String(), "--protected-mode", "no",
		"--save", "", "--dir", t.Dir(),
	}})
	e.ready(t, p)
	cli := func(stdin []byte, args ...string) string {
		return redisCLI(t, e.target, stdin, args...)
	}
	t.See("PING", cli(nil, "PING"))
	t.See("SET", cli(hex(pattern(500_000, 91)), "-x", "SET", "big"))
	t.See("STRLEN", cli(nil, "STRLEN", "big"))
	t.Stream("GET", []byte(cli(nil, "GET", "big")))
	var many []byte
	for i := range 5000 {
		many = fmt.Appendf(many, "SET key%d value%d\r\n", i, i)
	}
	t.See("pipeline", cli(many, "--pipe"))
	t.See("DBSIZE", cli(nil, "DBSIZE"))
	t.See("GET", cli(nil, "GET", "key4999"))
}

func redisCLI(t *T, to netip.AddrPort, stdin []byte, args ...string) string {
	args = append([]string{"-h", to.Addr().String(), "-p", fmt.Sprint(to.Port())}, args...)
	return t.Start(place.Client, suite.Command{Name: rediscl.Name, Args: args, Stdin: stdin}).Output()
}

func hex(b []byte) []byte { return fmt.Appendf(nil, "%x", b) }
