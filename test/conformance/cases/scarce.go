// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

const (
	memoryV1   = "/sys/fs/cgroup/memory"
	limitOfTCP = "memory.kmem.tcp.limit_in_bytes"
	usageOfTCP = "memory.kmem.tcp.usage_in_bytes"
	tcpMem     = "/proc/sys/net/ipv4/tcp_mem"
	// idleConnections use most of the memory that is counted.
	idleConnections = 12
	// leftPart is the part of a limit that remains free. It is less than half of the margin that the verdict
	// keeps free, see bpf/memory.h, and enough for the small messages of the case, also over TCP.
	leftPart = 24
)

// scarce has cases in which memory for sockets becomes short between two messages: by a limit of the memory
// cgroup (v1) that counts it, or, in a guest, which has none, by tcp_mem. Most of the counted memory belongs
// to other connections, which are never read.
func scarce(t *T) {
	pinch, err := pincher(t)
	t.Check(err, "find a limit of the memory for sockets")
	t.C, t.S = t.Connection()
	t.C.WriteAll([]byte("hello"))
	t.S.ReadFull(5)
	for range idleConnections {
		fillIdle(t)
	}
	edgeAcross(t, func(t *T) (sent, taken []byte) {
		sent, taken = changed(20*time.Millisecond, func(t *T) {
			t.Check(pinch(), "limit the memory for sockets")
		})(t)
		t.Check(t.Place.Steer(fellBackForMemory), "find the reason")
		return sent, taken
	})
}

// fillIdle sends on a connection that is never read, until a bound stops it.
func fillIdle(t *T) {
	idle, _ := t.Connection()
	idle.Nonblock(true)
	for range 64 {
		if r := idle.Send(string(make([]byte, 64<<10)), unix.MSG_DONTWAIT); r.N <= 0 {
			return
		}
	}
}

// fellBackForMemory fails if bytes are redirected although no flow of the node has ever fallen back because
// of memory.
func fellBackForMemory(d *datapath.Datapath, _ uint64) error {
	all, err := d.Totals()
	if err != nil {
		return err
	}
	var redirected uint64
	for _, totals := range all {
		redirected += totals.RedirectedBytes
		if totals.Fallbacks[datapath.ReasonMemory] > 0 {
			return nil
		}
	}
	if redirected == 0 {
		return nil // acceleration is off here
	}
	return errors.New("no flow fell back to TCP because of memory")
}

// pincher returns a function that leaves only little memory to sockets until the run ends. Only sockets that
// are made after pincher count.
func pincher(t *T) (pinch func() error, err error) {
	if _, err := os.Stat(filepath.Join(memoryV1, limitOfTCP)); err == nil {
		return limitGroup(t)
	}
	if os.Getenv(frame.GuestVariable) == "" {
		return nil, fmt.Errorf("no %s in %s, and tcp_mem is the whole node's", limitOfTCP, memoryV1)
	}
	was, err := os.ReadFile(tcpMem)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = os.WriteFile(tcpMem, was, 0) })
	return func() error {
		pages, err := pagesOfTCP()
		if err != nil {
			return err
		}
		return os.WriteFile(tcpMem, fmt.Appendf(nil, "%d %d %d", pages, pages+pages/leftPart, 4*pages), 0)
	}, nil
}

// limitGroup moves this process into its own memory cgroup until the run ends.
func limitGroup(t *T) (pinch func() error, err error) {
	home, err := ownMemoryGroup()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(memoryV1, "conformance-")
	if err != nil {
		return nil, err
	}
	move := func(to string) error {
		return os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
	}
	limit := func(bytes int) error {
		return os.WriteFile(filepath.Join(dir, limitOfTCP), []byte(strconv.Itoa(bytes)), 0)
	}
	t.Cleanup(func() { _ = errors.Join(limit(1<<40), move(home), os.Remove(dir)) })
	return func() error {
		b, err := os.ReadFile(filepath.Join(dir, usageOfTCP))
		if err != nil {
			return err
		}
		used, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return err
		}
		return limit(used + used/leftPart)
	}, errors.Join(limit(1<<40), move(dir)) // any limit starts the accounting
}

func ownMemoryGroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if _, path, ok := strings.Cut(line, ":memory:"); ok {
			return filepath.Join(memoryV1, strings.TrimSpace(path)), nil
		}
	}
	return "", errors.New("this process is in no memory cgroup of version 1")
}

// pagesOfTCP is the memory of all TCP sockets of the node.
func pagesOfTCP() (pages int, err error) {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), "\nTCP: ")
	if !ok {
		return 0, errors.New("/proc/net/sockstat has no line of TCP")
	}
	fields := strings.Fields(rest)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "mem" {
			return strconv.Atoi(fields[i+1])
		}
	}
	return 0, errors.New("/proc/net/sockstat does not have the memory of TCP")
}
