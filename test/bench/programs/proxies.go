// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// The client connects to nginx at httpPort. Its container redirects the connection to a proxy, which connects
// to relayPort of the server's container. There it is redirected to another proxy, which connects to nginx
// over loopback.
const (
	outgoingPort = 15001
	relayPort    = 8000
	incomingPort = 15006
	nginxPort    = 8080
)

func proxies() program {
	return program{
		name: "proxies",
		// Rules make the kernel track all connections of a container.
		apart: true,
		start: func(ctx context.Context, s *side) error {
			if err := startNginx(ctx, s, fmt.Sprintf("127.0.0.1:%d", nginxPort)); err != nil {
				return err
			}
			if err := s.pods.Server.Redirect(relayPort, incomingPort, false); err != nil {
				return err
			}
			if err := s.proxy(ctx, s.pods.Server, incomingPort, fmt.Sprintf("127.0.0.1:%d", nginxPort)); err != nil {
				return err
			}
			if err := s.pods.Client.Redirect(httpPort, outgoingPort, true); err != nil {
				return err
			}
			return s.proxy(ctx, s.pods.Client, outgoingPort, s.at(relayPort))
		},
		check: checkFiles,
		cells: []cell{{
			name: "two proxies before nginx, 32", goal: 2.2,
			note: "HAProxy beside the client and beside nginx, reached by REDIRECT rules", client: wrk(32, "1k"),
		}},
	}
}

const proxyConfig = `global
    maxconn 1000
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend in
    bind 0.0.0.0:%d
    default_backend out
backend out
    server one %s
`

func (s *side) proxy(ctx context.Context, where *lab.Pod, port int, to string) error {
	config := filepath.Join(s.dir, fmt.Sprintf("haproxy-%d.cfg", port))
	if err := os.WriteFile(config, fmt.Appendf(nil, proxyConfig, port, to), 0o644); err != nil {
		return err
	}
	return s.serve(ctx, spec{where: where, end: syscall.SIGTERM, args: []string{"haproxy", "-db", "-f", config}})
}
