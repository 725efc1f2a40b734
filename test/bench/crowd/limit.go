// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

const (
	// most is the maximum of connections in one process: each has its own port to the same destination.
	most = 16_000
	// others are open files of a process that are no connections.
	others = 64
)

// FilesOfAProcess is the number of connections that one process can hold here. It first tries to raise the
// limit of open files.
func FilesOfAProcess() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	want := max(limit.Max, most+others)
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: want}) == nil {
		limit.Max = want
	}
	n := min(int(limit.Max), most+others) - others
	if n < 1 {
		return 0, fmt.Errorf("a process may have %d open files only (raise it: ulimit -Hn %d)", limit.Max,
			most+others)
	}
	return n, nil
}

// widen lets a pod's listeners queue as many connections as a client makes before they are accepted, and lets
// its clients use nearly all ports.
func widen(p *lab.Pod) error {
	return p.Do(func() error {
		for name, value := range map[string]string{
			"core/somaxconn": "65535", "ipv4/ip_local_port_range": "1024 65535", "ipv4/tcp_max_syn_backlog": "65535",
		} {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
				return fmt.Errorf("set net/%s of %s: %w", name, p, err)
			}
		}
		return nil
	})
}
